"""The audit log in the store: entries chained by hash, and acts that wait to be recorded.

A script that carries out an act leaves its entry waiting in the same step, so that a process that dies after the act
loses no entry. Any process then chains it; `audit_log.lua` does so only once.
"""

import json
from collections.abc import Callable
from typing import Any

import redis

from trackdesk_producer.contract.scripts import ScriptCall, clock
from trackdesk_worker.store.audit_chain import link
from trackdesk_worker.store.errors import says
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.jobs import script


def append(store: JobStore, entry: dict[str, Any], *, waiting: bytes = b"") -> None:
    """Record an entry behind the last one, also on a full store.

    Args:
        waiting: the act as it waits; nothing is recorded if another process has recorded it.
    """
    while True:
        last, number = store.transaction([("LINDEX", store.keys.audit_log, -1), ("LLEN", store.keys.audit_log)])
        text, digest = link(entry, last)
        arguments = (clock(None), text, last or "", f"{number + 1} {digest}", waiting)
        if store.run(ScriptCall(script("audit_log"), store.keys.prefix, arguments, int)):
            return


def record_waiting(store: JobStore, compose: Callable[[dict[str, Any]], dict[str, Any] | None]) -> int:
    """Record every act that waits, in the order in which they were done.

    One that cannot be read is set aside (`audit_log_unreadable`), and those behind it are recorded. Return how many
    were set aside.

    Args:
        compose: makes the entry of what waits.
    """
    aside = 0
    while (raw := store.client.lindex(store.keys.audit_log_waiting, 0)) is not None:
        try:
            entry = compose(_parse(raw))  # type: ignore[arg-type]
        except Exception as error:
            if not _about_the_act(error):
                raise
            aside += store.run(ScriptCall(script("set_aside"), store.keys.prefix, (clock(None), raw), int))
            continue
        if entry is None:  # about a plan that is forgotten
            store.client.lrem(store.keys.audit_log_waiting, 1, raw)  # type: ignore[arg-type]
        else:
            append(store, entry, waiting=raw)  # type: ignore[arg-type]
    return aside


def _parse(raw: bytes) -> dict[str, Any]:
    act = json.loads(raw)
    if not isinstance(act, dict):
        raise TypeError(f"an act is a JSON object, not {type(act).__name__}")
    return act


def _about_the_act(error: Exception) -> bool:
    """Return whether an error is the act's own: it is no JSON, or the plan it names is stored as something else."""
    if isinstance(error, redis.RedisError):
        return says(error, "WRONGTYPE")
    return isinstance(error, ValueError | TypeError | LookupError | RecursionError)
