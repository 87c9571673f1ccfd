"""One reading of the whole store for one scrape: two round trips, all of it one moment.

Cost: the first trip asks for the tenants and the clock, the second for a fixed number of values per tenant and
a dozen global ones, every one of them O(1) or O(log n): as fast over a million jobs as over none
(``tests/integration/test_exporter_metrics.py``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from trackdesk_producer.contract.job import JobClass, State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.store.ledger import Book, parse_book
from trackdesk_worker.telemetry.labels import TenantState

OVERDUE_AFTER_S = 60
"""Work this long past its due time is overdue: several maintenance periods, and far below the objective of 300 s."""
WORKER_SEEN_S = 30
"""A worker whose heartbeat is older counts as gone."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Due work that waits."""

    jobs: int = 0
    oldest_age_s: float = 0.0
    overdue: int = 0

    @property
    def oldest_overdue_s(self) -> float:
        """Age of the oldest overdue job; 0 if none is."""
        return self.oldest_age_s if self.overdue else 0.0


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What Redis says of itself."""

    aof: bool
    aof_write_ok: bool
    noeviction: bool
    master: bool
    memory_used: int
    memory_max: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The store at one moment."""

    books: Mapping[str, Book]
    standing: Mapping[str, TenantState]
    ready: Mapping[str, Backlog]
    scheduled: Backlog
    """Of the jobs that wait for a time, the due ones; `jobs` counts all."""
    in_flight: int
    dead: int
    dead_by_reason: Mapping[str, int]
    wakeups: int
    workers: int
    admission_closed: bool
    facts: StoreFacts

    @property
    def indexed(self) -> Mapping[State, int]:
        """Jobs by state, as the indexes have them."""
        return {
            State.READY: sum(backlog.jobs for backlog in self.ready.values()),
            State.SCHEDULED: self.scheduled.jobs,
            State.IN_FLIGHT: self.in_flight,
            State.DEAD: self.dead,
        }


TENANT_FIELDS = ("paused", "hold", "frozen_until")


async def read_store(client: redis.asyncio.Redis, keys: Keys) -> Reading:
    """Read everything.

    Raises:
        redis.RedisError: when the store does not answer; the caller limits the time.
    """
    async with client.pipeline(transaction=False) as first:
        first.smembers(keys.tenants)
        first.time()
        first.info()
        names, (seconds, micros), info = await first.execute()
    tenants = sorted(name.decode() for name in names)
    now_us = seconds * 1_000_000 + micros
    replies = _Replies(await _second_trip(client, keys, tenants, now_us))
    now_ms = now_us // 1000
    scheduled = _backlog(replies.take(3), now_ms, 1000)
    in_flight, dead, groups, wakeups, workers, admission = replies.take(6)
    books, standing, ready = {}, {}, {}
    for tenant in tenants:
        book, fields = replies.take(2)
        books[tenant] = parse_book(book)
        standing[tenant] = _standing(fields, now_ms)
        ready[tenant] = _add([_backlog(replies.take(3), now_us, 1_000_000) for _ in JobClass])
    return Reading(
        books=books,
        standing=standing,
        ready=ready,
        scheduled=scheduled,
        in_flight=in_flight,
        dead=dead,
        dead_by_reason=_by_reason(groups),
        wakeups=wakeups,
        workers=workers,
        admission_closed=bool(admission),
        facts=_facts(info),
    )


async def _second_trip(client: redis.asyncio.Redis, keys: Keys, tenants: Sequence[str], now_us: int) -> list[Any]:
    now_ms = now_us // 1000
    late_us = now_us - OVERDUE_AFTER_S * 1_000_000
    async with client.pipeline(transaction=True) as pipeline:  # indexes and books of one moment, or they differ
        pipeline.zcard(keys.scheduled)
        pipeline.zrange(keys.scheduled, 0, 0, withscores=True)
        pipeline.zcount(keys.scheduled, "-inf", late_us // 1000)
        pipeline.zcard(keys.in_flight)
        pipeline.zcard(keys.dead)
        pipeline.hgetall(keys.dead_groups)
        pipeline.llen(keys.wakeups)
        pipeline.zcount(keys.workers, now_ms - WORKER_SEEN_S * 1000, "+inf")
        pipeline.exists(keys.admission)
        for tenant in tenants:
            pipeline.hgetall(keys.ledger(tenant))
            pipeline.hmget(keys.tenant(tenant), TENANT_FIELDS)
            for job_class in JobClass:
                ready = keys.ready(tenant, job_class)
                pipeline.zcard(ready)
                pipeline.zrange(ready, 0, 0, withscores=True)
                pipeline.zcount(ready, "-inf", late_us)
        replies: list[Any] = await pipeline.execute()
    return replies


class _Replies:
    """Replies in the order of their commands, taken off from the front."""

    def __init__(self, replies: list[Any]) -> None:
        self._replies = replies
        self._next = 0

    def take(self, n: int) -> list[Any]:
        taken = self._replies[self._next : self._next + n]
        self._next += n
        return taken


def _backlog(replies: list[Any], now: int, units_per_s: int) -> Backlog:
    jobs, head, overdue = replies
    age_s = max(0.0, (now - head[0][1]) / units_per_s) if head else 0.0
    return Backlog(jobs, age_s, overdue)


def _add(backlogs: Sequence[Backlog]) -> Backlog:
    return Backlog(
        sum(backlog.jobs for backlog in backlogs),
        max(backlog.oldest_age_s for backlog in backlogs),
        sum(backlog.overdue for backlog in backlogs),
    )


def _standing(fields: Sequence[bytes | None], now_ms: int) -> TenantState:
    paused, hold, frozen_until = fields
    if paused is not None:
        return TenantState.PAUSED
    if hold is not None:
        return TenantState.HELD
    return TenantState.FROZEN if frozen_until and int(frozen_until) > now_ms else TenantState.RUNNING


def _by_reason(groups: Mapping[bytes, bytes]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for group, jobs in groups.items():
        reasons[group.decode().partition(":")[2]] += int(jobs)
    return reasons


def _facts(info: Mapping[str, Any]) -> StoreFacts:
    return StoreFacts(
        aof=bool(info.get("aof_enabled")),
        aof_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        noeviction=info.get("maxmemory_policy") == "noeviction",
        master=info.get("role") == "master",
        memory_used=int(info.get("used_memory", 0)),
        memory_max=int(info.get("maxmemory", 0)),
    )
