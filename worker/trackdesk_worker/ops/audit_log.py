"""The audit log: who did what to how many sales, for how much money, and why."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.store.audit_log import append
from trackdesk_worker.store.job_store import JobStore

MAX_TEXT = 500
LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""


_MISSING = {
    "operator": "Who is doing this? Pass --operator NAME (recorded in the audit log)",
    "reason": "Why? Pass --reason TEXT (recorded in the audit log)",
}


class OperatorInvalid(ValueError):
    """A name or reason that the audit log does not accept; the message says why."""


class Act(StrEnum):
    """Operators' actions that are audited."""

    REDRIVE = "redrive"
    DISCARD = "discard"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    EDIT = "edit"
    EXPORT = "export"
    REVEAL = "reveal"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, and why.

    Raises:
        OperatorInvalid: if either is blank, too long or holds control characters.
    """

    name: str
    reason: str

    def __post_init__(self) -> None:
        for label, value in (("operator", self.name), ("reason", self.reason)):
            if not value.strip():
                raise OperatorInvalid(_MISSING[label])
            if len(value) > MAX_TEXT or not value.isprintable():
                raise OperatorInvalid(f"the {label} must be at most {MAX_TEXT} printable characters")


def entry_of(
    store: JobStore,
    act: Act,
    operator: Operator,
    *,
    count: int,
    money: Mapping[str, Decimal] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return the entry of an action, at the store's time."""
    return {
        "kind": act.value,
        "at_ms": store.time_ms(),
        "operator": operator.name,
        "reason": operator.reason,
        "count": count,
        "money": plain_money(money or {}),
        **{name: value for name, value in more.items() if value is not None},
    }


def record(store: JobStore, act: Act, operator: Operator, *, count: int, **more: Any) -> None:
    """Append an action to the audit log, chained to the entry before it; also on a full store."""
    append(store, entry_of(store, act, operator, count=count, **more))


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the log."""

    number: int
    """Its position, from 1; entries never move."""
    fields: Mapping[str, Any]

    @property
    def at_ms(self) -> int | None:
        """Its time; None if the entry has none that a calendar knows."""
        at_ms = self.fields.get("at_ms")
        return at_ms if type(at_ms) is int and 0 <= at_ms <= LAST_MS else None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some entries, the newest first."""

    entries: tuple[AuditEntry, ...]
    before: int | None
    """Cursor of the next, older page; None on the last one."""


def read_page(store: JobStore, *, before: int | None = None, limit: int = 50) -> LogPage:
    """Return up to `limit` entries older than the one numbered `before`, else the newest.

    The log only grows at its end, so pages never shift.
    """
    last = store.client.llen(store.keys.audit_log) if before is None else before - 1
    first = max(1, last - limit + 1)
    raws: list[Any] = store.client.lrange(store.keys.audit_log, first - 1, last - 1) if last > 0 else []
    entries = [AuditEntry(first + place, _fields(raw)) for place, raw in enumerate(raws)]
    return LogPage(tuple(reversed(entries)), first if first > 1 and entries else None)


def walk_entries(store: JobStore, *, batch: int = 500) -> Iterator[bytes]:
    """Yield every entry as stored, the oldest first, in flat memory: the bytes that the hash chain covers."""
    start = 0
    while True:
        raws: list[Any] = store.client.lrange(store.keys.audit_log, start, start + batch - 1)
        if not raws:
            return
        yield from raws
        start += len(raws)


def _fields(raw: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        fields = None
    return fields if isinstance(fields, dict) else {"kind": "damaged"}  # `trackdesk audit` says more
