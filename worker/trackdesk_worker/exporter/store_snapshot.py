"""One snapshot of the whole store for one scrape: two round trips, all of it one moment.

Cost: the first trip asks for the tenants and the clock, the second for a dozen global values and, by script, for a
fixed number of values per tenant, every one of them O(1) or O(log n): as fast over a million jobs as over none
(``tests/integration/test_exporter_metrics.py``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from trackdesk_producer.contract.constants import OUTAGE, THROTTLED
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_producer.contract.runner import Command, arun_raw, result
from trackdesk_worker.store.dead_letters.causes import Cause, cause_commands, parse_causes
from trackdesk_worker.store.ledger import Book
from trackdesk_worker.store.tenant_snapshot import ReadyQueue, TenantSnapshot, tenant_snapshots
from trackdesk_worker.telemetry.catalogue import OBJECTIVE_S
from trackdesk_worker.telemetry.labels import TenantState

OVERDUE_AFTER_S = 60
"""Work this long past its due time is overdue: several maintenance periods, and far below the objective of 300 s."""
AT_BUDGET_S = 5
"""A tenant whose budget is spent up to this long ago, or further, is sent as fast as it may be."""
WORKER_SEEN_S = 30
"""A worker whose heartbeat is older counts as gone."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Due work that waits."""

    jobs: int = 0
    oldest_age_s: float = 0.0
    overdue: int = 0
    late: int = 0

    @property
    def oldest_overdue_s(self) -> float:
        """Age of the oldest overdue job; 0 if none is."""
        return self.oldest_age_s if self.overdue else 0.0


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What Redis says of itself."""

    aof: bool
    aof_write_ok: bool
    aof_rewrite_ok: bool
    aof_delayed: int
    noeviction: bool
    master: bool
    memory_used: int
    memory_max: int
    evicted: int
    replicas: int
    replica_lag_s: float | None
    uptime_s: int


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """The store at one moment."""

    books: Mapping[str, Book]
    tenant_snapshots: Mapping[str, TenantSnapshot]
    now_ms: int
    tenant_states: Mapping[str, TenantState]
    ready: Mapping[str, Mapping[JobClass, Backlog]]
    scheduled: Backlog
    """Of the jobs that wait for a time, the due ones; `jobs` counts all."""
    in_flight: int
    dead: int
    dead_by_reason: Mapping[str, int]
    wakeups: int
    workers: int
    admission_closed: bool
    newer: int
    """Jobs that stand aside, in no index, because a newer release wrote their records."""
    facts: StoreFacts

    @property
    def indexed(self) -> Mapping[State, int]:
        """Jobs by state, as the indexes have them."""
        return {
            State.READY: sum(backlog.jobs for queues in self.ready.values() for backlog in queues.values()),
            State.SCHEDULED: self.scheduled.jobs,
            State.IN_FLIGHT: self.in_flight,
            State.DEAD: self.dead,
        }


SAMPLED = 4
"""Jobs per queue that the forecast of lateness looks at; a scrape has to stay cheap."""


async def read_store(client: redis.asyncio.Redis, keys: Keys, *, now_ms: int | None = None) -> StoreSnapshot:
    """Read everything, at Redis' own time; `now_ms` is for tests that live through hours.

    Raises:
        redis.RedisError: when the store does not answer; the caller limits the time.
    """
    async with client.pipeline(transaction=False) as first:
        first.smembers(keys.tenants)
        first.time()
        first.info()
        names, (seconds, micros), info = await first.execute()
    tenants = sorted(name.decode() for name in names)
    now_us = seconds * 1_000_000 + micros if now_ms is None else now_ms * 1000
    now_ms = now_us // 1000
    replies, found = await _second_round_trip(client, keys, tenants, now_us)
    scheduled = _backlog(replies[:3], now_ms)
    in_flight, dead, causes, cause_books, wakeups, workers, admission, newer = replies[3:]
    return StoreSnapshot(
        books={tenant_snapshot.tenant: tenant_snapshot.book for tenant_snapshot in found},
        tenant_snapshots={tenant_snapshot.tenant: tenant_snapshot for tenant_snapshot in found},
        now_ms=now_ms,
        tenant_states={
            tenant_snapshot.tenant: _tenant_state(tenant_snapshot.state, now_ms) for tenant_snapshot in found
        },
        ready={tenant_snapshot.tenant: _ready(tenant_snapshot, now_us) for tenant_snapshot in found},
        scheduled=scheduled,
        in_flight=in_flight,
        dead=dead,
        dead_by_reason=_by_reason(parse_causes(causes, cause_books)),
        wakeups=wakeups,
        workers=workers,
        admission_closed=bool(admission),
        newer=newer,
        facts=_facts(info),
    )


async def _second_round_trip(
    client: redis.asyncio.Redis, keys: Keys, tenants: Sequence[str], now_us: int
) -> tuple[list[Any], list[TenantSnapshot]]:
    now_ms = now_us // 1000
    overdue_us = now_us - OVERDUE_AFTER_S * 1_000_000
    late_us = now_us - int(OBJECTIVE_S * 1_000_000)
    calls = tenant_snapshots(
        keys, tenants, overdue_before_us=overdue_us, late_before_us=late_us, sample=SAMPLED, now_ms=now_ms
    )
    plain: list[Command] = [
        ("ZCARD", keys.scheduled),
        ("ZRANGE", keys.scheduled, 0, 0, "WITHSCORES"),
        ("ZCOUNT", keys.scheduled, "-inf", overdue_us // 1000),
        ("ZCARD", keys.in_flight),
        ("ZCARD", keys.dead),
        *cause_commands(keys),
        ("LLEN", keys.wakeups),
        ("ZCOUNT", keys.workers, now_ms - WORKER_SEEN_S * 1000, "+inf"),
        ("EXISTS", keys.admission),
        ("ZCARD", keys.newer),
    ]

    async def send(commands: Sequence[Command]) -> list[Any]:
        async with client.pipeline(transaction=True) as pipeline:  # indexes and books of one moment, or they differ
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    replies = await arun_raw(send, calls, plain)
    found: list[TenantSnapshot] = []
    for call, reply in zip(calls, replies, strict=False):
        some = result(call, reply)
        found += some
    rest = replies[len(calls) :]
    for reply in rest:
        if isinstance(reply, Exception):
            raise reply
    return rest, found


def _backlog(replies: list[Any], now_ms: int) -> Backlog:
    jobs, head, overdue = replies
    age_s = max(0.0, (now_ms - float(head[1])) / 1000) if head else 0.0
    return Backlog(jobs, age_s, overdue)


def _ready(tenant_snapshot: TenantSnapshot, now_us: int) -> dict[JobClass, Backlog]:
    def backlog(queue: ReadyQueue) -> Backlog:
        age_us = 0 if queue.oldest_us is None else now_us - queue.oldest_us
        return Backlog(queue.size, max(0.0, age_us / 1_000_000), queue.overdue, queue.late)

    return {job_class: backlog(queue) for job_class, queue in tenant_snapshot.queues.items()}


def _tenant_state(state: Mapping[str, str], now_ms: int) -> TenantState:
    if "paused" in state:
        return TenantState.PAUSED
    if "hold" in state:
        return {OUTAGE: TenantState.BREAKER, THROTTLED: TenantState.FROZEN}.get(state["hold"], TenantState.HELD)
    if int(state.get("frozen_until", 0)) > now_ms:
        return TenantState.FROZEN
    # `tat` is when the budget will be whole again if nothing more is sent (claim.lua): a tenant that is served as soon
    # as its budget allows never falls far behind the present.
    spent_until_ms = int(state.get("tat", 0)) // 1000
    return TenantState.AT_BUDGET if spent_until_ms > now_ms - AT_BUDGET_S * 1000 else TenantState.RUNNING


def _by_reason(causes: Sequence[Cause]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for cause in causes:
        reasons[cause.reason] += cause.jobs
    return reasons


def _facts(info: Mapping[str, Any]) -> StoreFacts:
    replicas = int(info.get("connected_slaves", 0))
    lags = [float(info[f"slave{n}"].get("lag", 0)) for n in range(replicas) if f"slave{n}" in info]
    return StoreFacts(
        aof=bool(info.get("aof_enabled")),
        aof_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        aof_rewrite_ok=info.get("aof_last_bgrewrite_status", "ok") == "ok",
        aof_delayed=int(info.get("aof_delayed_fsync", 0)),
        noeviction=info.get("maxmemory_policy") == "noeviction",
        master=info.get("role") == "master",
        memory_used=int(info.get("used_memory", 0)),
        memory_max=int(info.get("maxmemory", 0)),
        evicted=int(info.get("evicted_keys", 0)),
        replicas=replicas,
        replica_lag_s=max(lags, default=None),
        uptime_s=int(info.get("uptime_in_seconds", 0)),
    )
