"""Where everything stands and what is ahead, read from books and indexes: O(tenants), never a walk over jobs."""

from collections.abc import Mapping
from dataclasses import dataclass

import redis

from trackdesk_producer.contract.constants import OUTAGE, THROTTLED
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_producer.contract.runner import run
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.audit_log import now_ms
from trackdesk_worker.ops.backlog_forecast import BacklogForecast, Forecaster
from trackdesk_worker.store.ledger import Book, Money, total
from trackdesk_worker.store.tenant_snapshot import TenantSnapshot, tenant_snapshots

WORKER_SEEN_S = 15
"""A worker that gave no sign for longer is not counted as running; it gives one every half second."""

SAMPLED = 40
"""Jobs per queue that the forecast of lateness looks at."""


@dataclass(frozen=True, slots=True)
class BlockedTenant:
    """Why a tenant's jobs are not claimed. Times in Unix milliseconds."""

    tenant: str
    kind: str
    """``paused`` by an operator, ``hold`` or ``breaker`` by the system, or ``frozen`` for a while."""
    reason: str
    by: str | None
    since_ms: int | None
    until_ms: int | None
    """When it goes on by itself, or when the next probe goes out."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """One look at the store."""

    books: Mapping[str, Book]
    """By tenant."""
    book: Book
    """Of all tenants."""
    forecasts: Mapping[str, BacklogForecast]
    """By tenant."""
    oldest_ready_age_s: float | None
    """Of the job that has been ready for longest; None if none is."""
    oldest_overdue_s: float | None
    """How far the latest duty is behind: a scheduled job not promoted, a lease not taken back; None if none is."""
    blocked: tuple[BlockedTenant, ...]
    workers: Mapping[str, float]
    """Worker → seconds since its last sign."""
    admission_closed: bool
    """Whether enqueue is refused because the store is nearly full."""
    newer: int
    """Jobs that stand aside because a newer release wrote their records; none of these workers can go on with them."""

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs by state; ended ones within the dedupe window and those pruned since, together."""
        counts = self.book.jobs
        return {state.value: counts[state] + (counts[f"pruned_{state}"] if state.terminal else 0) for state in State}

    @property
    def at_risk(self) -> Money:
        """Money accepted and not delivered."""
        return self.book.at_risk


def read_status(client: redis.Redis, keys: Keys, forecaster: Forecaster) -> StoreStatus:
    """Read everything in three round trips and a call per hundred tenants."""
    tenants = sorted(text(name) for name in client.smembers(keys.tenants))
    now = now_ms(client)
    found: list[TenantSnapshot] = []
    for call in tenant_snapshots(keys, tenants, overdue_before_us=0, sample=SAMPLED):
        some = run(client, call)
        found += some
    with client.pipeline(transaction=False) as pipeline:
        for index in (keys.scheduled, keys.in_flight):
            pipeline.zrange(index, 0, 0, withscores=True)
        pipeline.zrange(keys.workers, 0, -1, withscores=True)
        pipeline.exists(keys.admission)
        pipeline.zcard(keys.newer)
        scheduled, in_flight, seen_at, closed, newer = pipeline.execute()
    ready = [queue.oldest_us for one in found for queue in one.queues.values() if queue.oldest_us is not None]
    due = min((head[0][1] for head in (scheduled, in_flight) if head), default=None)
    return StoreStatus(
        books={one.tenant: one.book for one in found},
        book=total(one.book for one in found),
        forecasts={one.tenant: forecaster(one, now) for one in found},
        oldest_ready_age_s=max(0.0, now / 1000 - min(ready) / 1_000_000) if ready else None,
        oldest_overdue_s=(now - due) / 1000 if due is not None and due < now else None,
        blocked=tuple(blocked for one in found for blocked in _blocked(one.tenant, one.state, now)),
        workers={text(name): max(0.0, (now - seen) / 1000) for name, seen in seen_at},
        admission_closed=bool(closed),
        newer=newer,
    )


def _blocked(tenant: str, state: Mapping[str, str], now: int) -> list[BlockedTenant]:
    found = []
    if "paused" in state:
        why, by = state.get("paused_why", "-"), state.get("paused_by")
        found.append(BlockedTenant(tenant, "paused", why, by, int(state["paused"]), None))
    if "hold" in state:
        since, probe = int(state.get("held_since", 0)) or None, int(state.get("probe_at", 0)) or None
        kind = {OUTAGE: "breaker", THROTTLED: "frozen"}.get(state["hold"], "hold")
        found.append(BlockedTenant(tenant, kind, state["hold"], None, since, probe))
    until = int(state.get("frozen_until", 0))
    if until > now:
        found.append(BlockedTenant(tenant, "frozen", state.get("frozen_reason", "-"), None, None, until))
    return found
