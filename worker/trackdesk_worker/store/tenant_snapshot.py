"""Snapshots of tenants: ledger, operational state and ready queues, for status, forecasts and metrics.

A script reads them, many tenants a call: single commands cost 300 ms for a thousand tenants, most of it in the
client.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass
from trackdesk_producer.contract.scripts import ScriptCall, clock
from trackdesk_worker.domain.budget_use import AT_BUDGET
from trackdesk_worker.domain.tenant_state import TenantState
from trackdesk_worker.store.jobs import reading_script
from trackdesk_worker.store.ledger import Book, parse_book
from trackdesk_worker.store.tenant_record import TenantRecord, parse_tenant

BATCH = 100
"""Tenants per call: a call holds the store for about a millisecond."""


@dataclass(frozen=True, slots=True)
class ReadyQueue:
    """The ready jobs of one class."""

    size: int = 0
    oldest_us: int | None = None
    """When the first of them became ready."""
    overdue: int = 0
    late: int = 0
    """How many became ready before the two times of the call."""
    sample: tuple[tuple[int, int], ...] = ()
    """Place and start of the horizon (ms) of some, evenly over the queue."""


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """One tenant at one moment."""

    tenant: str
    book: Book
    record: TenantRecord
    queues: Mapping[JobClass, ReadyQueue]
    turn_us: int | None = None
    """When the tenant is served next, or was to be; None if no ready job was seen at its last turn."""

    def state(self, now_ms: int) -> TenantState:
        """Return whether jobs may leave; the first of the states that applies."""
        blocked = self.record.blocked_state(now_ms)
        if blocked is not None:
            return blocked
        waits = any(queue.size for queue in self.queues.values())
        at_budget = waits and self.record.spends_budget(now_ms) and self.budget_used(now_ms) >= AT_BUDGET
        return TenantState.AT_BUDGET if at_budget else TenantState.RUNNING

    def budget_used(self, now_ms: int) -> float:
        """Return which part of its budget the tenant used lately, while its jobs waited for it."""
        waiting_us = [queue.oldest_us for queue in self.queues.values() if queue.oldest_us is not None]
        idle_us = 0
        if waiting_us:
            turn_us = min(waiting_us) if self.turn_us is None else self.turn_us
            idle_us = now_ms * 1000 - self.record.could_leave_us(turn_us)
        return self.record.used.share(idle_us=max(0, idle_us))


def tenant_snapshots(
    keys: Keys,
    tenants: Sequence[str],
    *,
    overdue_before_us: int,
    late_before_us: int = 0,
    sample: int = 0,
    now_ms: int | None = None,
) -> list[ScriptCall[list[TenantSnapshot]]]:
    """Return the calls that read all of `tenants`, and `sample` jobs of each queue."""
    return [
        _tenant_snapshots(keys, tenants[start : start + BATCH], (overdue_before_us, late_before_us), sample, now_ms)
        for start in range(0, len(tenants), BATCH)
    ]


def _tenant_snapshots(
    keys: Keys, tenants: Sequence[str], before_us: tuple[int, int], sample: int, now_ms: int | None
) -> ScriptCall[list[TenantSnapshot]]:
    def read(reply: list[Any]) -> list[TenantSnapshot]:
        return [_read(tenant, one) for tenant, one in zip(tenants, reply, strict=True)]

    arguments = (clock(now_ms), *before_us, sample, *tenants)
    return ScriptCall(reading_script("tenant_snapshot"), keys.prefix, arguments, read)


def _read(tenant: str, reply: list[Any]) -> TenantSnapshot:
    ledger, state, turn, *queues = reply
    return TenantSnapshot(
        tenant,
        parse_book(_pairs(ledger)),
        parse_tenant(_pairs(state)),
        {job_class: _queue(queue) for job_class, queue in zip(JobClass, queues, strict=True)},
        int(float(turn)) if turn else None,
    )


def _pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _queue(reply: list[Any]) -> ReadyQueue:
    size, oldest, overdue, late, *sample = reply
    places = tuple((int(place), int(epoch)) for place, epoch in zip(sample[::2], sample[1::2], strict=True))
    return ReadyQueue(int(size), int(float(oldest)) if oldest else None, int(overdue), int(late), places)
