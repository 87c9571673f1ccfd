"""Redriving and discarding at once, through the only way there is: small plans, driven to their end."""

from collections.abc import Sequence
from itertools import count

import redis

from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import run
from trackdesk_worker.store import plans

AT_ONCE = 50
"""Jobs a plan moves without regard to the budget."""
_numbers = count(1)


def act_now(
    client: redis.Redis,
    keys: Keys,
    act: str,
    ids: Sequence[str],
    *,
    window_ms: int = 3_600_000,
    note: str = '{"kind":"redrive"',
    now_ms: int | None = None,
) -> list[str]:
    """Return a verdict per id: ``redriven``, ``discarded``, ``unknown``, ``refused:<state>``. Leaves no plan behind."""
    replies: list[str] = []
    for start in range(0, len(ids), AT_ONCE):
        replies += _act(client, keys, act, ids[start : start + AT_ONCE], window_ms, note, now_ms)
    return replies


def _act(
    client: redis.Redis, keys: Keys, act: str, ids: Sequence[str], window_ms: int, note: str, now_ms: int | None
) -> list[str]:
    plan = f"plan-now-{next(_numbers)}"
    fields = {"act": act, "window_ms": str(window_ms), "limit": ""}
    assert run(client, plans.create(keys, plan, fields, ids, entry="{}", now_ms=now_ms))
    while plans.step(client, keys, plan, rate_us=0, now_ms=now_ms).state == "listing":
        pass
    assert run(client, plans.turn(keys, plan, "start", entry="{}", note=note, now_ms=now_ms)) == "ok"
    while (did := plans.step(client, keys, plan, rate_us=0, now_ms=now_ms)).state != "finished":
        assert did.moved, f"{plan} stands still with {did.left} jobs left"
    verdicts: dict[str, list[str]] = {}
    for part in ("refused", "done", "skipped"):
        for entry in client.lrange(keys.plan_items(plan, part), 0, -1):
            _, verdict, identity = entry.decode().split(" ", 2)
            said = verdict.replace("refused:unknown", "unknown").replace("skipped", "refused")
            verdicts.setdefault(identity, []).append(said)
    ((_, sums),) = plans.read_fields(client, keys, [plan])
    assert sum(plans.verdicts_of(sums).values()) == sums.jobs["listed"] == len(ids)
    parts = [keys.plan_items(plan, part) for part in ("done", "skipped", "refused", "named")]
    client.delete(*parts, keys.plan(plan), keys.plan_sums(plan), keys.plan_tenants(plan), keys.audit_log_waiting)
    client.zrem(keys.plans, plan)
    # A job that was named twice moved once: the done part comes before the skipped one.
    return [verdicts[identity].pop(0) for identity in ids]
