"""The status of the store: its snapshot with the backlog forecasts. O(tenants), never a walk over jobs."""

from collections.abc import Mapping
from dataclasses import dataclass

from trackdesk_producer.contract.record import State
from trackdesk_worker.ops.backlog_forecast import BacklogForecast, Forecaster
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, Money, total
from trackdesk_worker.store.snapshot import read_snapshot
from trackdesk_worker.store.tenant_record import BlockedTenant

SAMPLED = 40
"""Jobs per queue that the forecast of lateness reads."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store at one moment, for people."""

    books: Mapping[str, Book]
    """By tenant."""
    book: Book
    """Of all tenants."""
    forecasts: Mapping[str, BacklogForecast]
    """By tenant."""
    oldest_ready_age_s: float | None
    """Of the job that has been ready for longest; None without one."""
    oldest_overdue_s: float | None
    """Age of the oldest overdue work: a scheduled job not promoted, a lease not reclaimed; None if there is none."""
    blocked: tuple[BlockedTenant, ...]
    workers: Mapping[str, float]
    """Worker → seconds since its last heartbeat."""
    admission_closed: bool
    """Whether enqueue is refused because the store is nearly full."""
    newer: int
    """Parked jobs: a newer release wrote their records, and only its workers can deliver them."""

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs by state; ended ones within the dedupe window and those pruned since, together."""
        counts = self.book.jobs
        return {state.value: counts[state] + (counts[f"pruned_{state}"] if state.terminal else 0) for state in State}

    @property
    def at_risk(self) -> Money:
        """Money accepted and not delivered."""
        return self.book.at_risk


def read_status(store: JobStore, forecaster: Forecaster) -> StoreStatus:
    """Read everything in two round trips."""
    snapshot = read_snapshot(store, sample=SAMPLED)
    now_ms, due_ms = snapshot.now_ms, snapshot.due_ms
    waiting = [backlog for queues in snapshot.ready.values() for backlog in queues.values() if backlog.jobs]
    return StoreStatus(
        books=snapshot.books,
        book=total(snapshot.books.values()),
        forecasts={name: forecaster(tenant, now_ms) for name, tenant in snapshot.tenants.items()},
        oldest_ready_age_s=max((backlog.oldest_age_s for backlog in waiting), default=None),
        oldest_overdue_s=(now_ms - due_ms) / 1000 if due_ms is not None and due_ms < now_ms else None,
        blocked=tuple(
            blocked for name, tenant in snapshot.tenants.items() for blocked in tenant.record.blocked(name, now_ms)
        ),
        workers=snapshot.workers,
        admission_closed=snapshot.admission_closed,
        newer=snapshot.newer,
    )
