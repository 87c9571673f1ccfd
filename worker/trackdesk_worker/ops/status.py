"""Where everything stands, read from books and indexes: O(tenants), never a walk over jobs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from trackdesk_producer.contract.job import JobClass, State
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.operations_log import now_ms
from trackdesk_worker.store.ledger import Book, Money, read_books, total

WORKER_SEEN_S = 15
"""A worker that gave no sign for longer is not counted as running; it gives one every half second."""


@dataclass(frozen=True, slots=True)
class Standstill:
    """Why a tenant's jobs are not claimed. Times in Unix milliseconds."""

    tenant: str
    kind: str
    """``paused`` by an operator, ``hold`` by the system, or ``frozen`` for a while."""
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
    oldest_ready_age_s: float | None
    """Of the job that has been ready for longest; None if none is."""
    oldest_overdue_s: float | None
    """How far the latest duty is behind: a scheduled job not promoted, a lease not taken back; None if none is."""
    standstills: tuple[Standstill, ...]
    workers: Mapping[str, float]
    """Worker → seconds since its last sign."""
    admission_closed: bool
    """Whether enqueue is refused because the store is nearly full."""

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs by state; ended ones within the dedupe window and those pruned since, together."""
        counts = self.book.jobs
        return {state.value: counts[state] + (counts[f"pruned_{state}"] if state.terminal else 0) for state in State}

    @property
    def at_risk(self) -> Money:
        """Money accepted and not delivered."""
        return self.book.at_risk


def read_status(client: redis.Redis, keys: Keys) -> StoreStatus:
    """Read everything in three round trips."""
    books = read_books(client, keys)
    tenants = sorted(books)
    now = now_ms(client)
    with client.pipeline(transaction=False) as pipeline:
        for index in (keys.scheduled, keys.in_flight):
            pipeline.zrange(index, 0, 0, withscores=True)
        pipeline.zrange(keys.workers, 0, -1, withscores=True)
        pipeline.exists(keys.admission)
        for tenant in tenants:
            pipeline.hgetall(keys.tenant(tenant))
            for job_class in JobClass:
                pipeline.zrange(keys.ready(tenant, job_class), 0, 0, withscores=True)
        replies = iter(pipeline.execute())
    heads = [_score(next(replies)) for _ in range(2)]
    workers = {text(name): max(0.0, (now - seen) / 1000) for name, seen in next(replies)}
    closed = bool(next(replies))
    standstills: list[Standstill] = []
    ready: list[float] = []
    for tenant in tenants:
        state = {text(name): text(value) for name, value in next(replies).items()}
        standstills += _standstills(tenant, state, now)
        ready += [score / 1000 for score in (_score(next(replies)) for _ in JobClass) if score is not None]
    due = min((score for score in heads if score is not None), default=None)
    return StoreStatus(
        books=books,
        book=total(books.values()),
        oldest_ready_age_s=max(0.0, (now - min(ready)) / 1000) if ready else None,
        oldest_overdue_s=(now - due) / 1000 if due is not None and due < now else None,
        standstills=tuple(standstills),
        workers=workers,
        admission_closed=closed,
    )


def _standstills(tenant: str, state: Mapping[str, str], now: int) -> list[Standstill]:
    found = []
    if "paused" in state:
        why, by = state.get("paused_why", "-"), state.get("paused_by")
        found.append(Standstill(tenant, "paused", why, by, int(state["paused"]), None))
    if "hold" in state:
        since, probe = int(state.get("held_since", 0)) or None, int(state.get("probe_at", 0)) or None
        found.append(Standstill(tenant, "hold", state["hold"], None, since, probe))
    until = int(state.get("frozen_until", 0))
    if until > now:
        found.append(Standstill(tenant, "frozen", state.get("frozen_reason", "-"), None, None, until))
    return found


def _score(reply: Any) -> float | None:
    return float(reply[0][1]) if reply else None
