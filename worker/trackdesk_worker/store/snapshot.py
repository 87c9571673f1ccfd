"""One snapshot of the store for status, console and exporter: two round trips, and all of the second at one moment.

The first asks for the tenants and the clock, the second for a dozen global values and, by script, for a fixed number of
values per tenant, every one of them O(1) or O(log n): as fast over a million jobs as over none
(``tests/integration/test_exporter_metrics.py``).
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_producer.contract.runner import Command, Replies, exchange
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.store.dead_letters.causes import Cause, cause_commands, parse_causes
from trackdesk_worker.store.job_store import AsyncJobStore, JobStore
from trackdesk_worker.store.ledger import Book
from trackdesk_worker.store.tenant_snapshot import ReadyQueue, TenantSnapshot, tenant_snapshots

OVERDUE_AFTER_S = 60
"""Work this long past its due time is overdue: several maintenance periods, and far below the objective of 300 s."""
WORKER_SEEN_S = 15
"""A worker without a heartbeat for longer does not count as running; it sends one every half second."""


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
    """What the INFO of Redis says."""

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

    tenants: Mapping[str, TenantSnapshot]
    now_ms: int
    ready: Mapping[str, Mapping[JobClass, Backlog]]
    """By tenant."""
    scheduled: Backlog
    """Age and overdue are of the due jobs; `jobs` counts all."""
    in_flight: int
    due_ms: float | None
    """When the oldest duty fell due or will: the first scheduled job, or the first end of a lease."""
    dead: int
    dead_by_reason: Mapping[str, int]
    wakeups: int
    workers: Mapping[str, float]
    """Worker → seconds since its last heartbeat."""
    admission_closed: bool
    """Whether enqueue is refused because the store is nearly full."""
    newer: int
    """Parked jobs, in no index, whose records only a newer release can read."""
    facts: StoreFacts

    @property
    def books(self) -> Mapping[str, Book]:
        """The ledger by tenant."""
        return {name: tenant.book for name, tenant in self.tenants.items()}

    @property
    def running_workers(self) -> int:
        """Workers with a recent heartbeat."""
        return sum(age_s <= WORKER_SEEN_S for age_s in self.workers.values())

    @property
    def indexed(self) -> Mapping[State, int]:
        """Jobs by state, as the indexes have them."""
        return {
            State.READY: sum(backlog.jobs for queues in self.ready.values() for backlog in queues.values()),
            State.SCHEDULED: self.scheduled.jobs,
            State.IN_FLIGHT: self.in_flight,
            State.DEAD: self.dead,
        }


def snapshot_flow(
    keys: Keys, *, sample: int, late_after_s: float | None = None, now_ms: int | None = None
) -> Generator[Sequence[Command], Replies, StoreSnapshot]:
    """Yield what to send in each of two round trips, take the replies, and return the snapshot.

    The second is a transaction: indexes and ledger are of one moment.

    Args:
        sample: jobs per queue that the backlog forecast reads.
        late_after_s: wait from which a ready job counts as late; None counts none.
        now_ms: a time for tests that span hours; None is the clock of Redis.

    Raises:
        redis.RedisError: if a reply is an error.
        ValueError: if something stored is no number.
    """
    names, (seconds, micros), info = _sound((yield [("SMEMBERS", keys.tenants), ("TIME",), ("INFO",)]))
    now_us = seconds * 1_000_000 + micros if now_ms is None else now_ms * 1000
    overdue_us = now_us - OVERDUE_AFTER_S * 1_000_000
    calls = tenant_snapshots(
        keys,
        sorted(text(name) for name in names),
        overdue_before_us=overdue_us,
        late_before_us=0 if late_after_s is None else now_us - int(late_after_s * 1_000_000),
        sample=sample,
        now_ms=now_us // 1000,
    )
    replies = _sound((yield from exchange(calls, _store_commands(keys, overdue_us // 1000))))
    tenants: dict[str, TenantSnapshot] = {}
    for call, reply in zip(calls, replies, strict=False):
        tenants |= {one.tenant: one for one in call.read(reply)}
    return _parse(replies[len(calls) :], tenants, info, now_us)


def read_snapshot(
    store: JobStore, *, sample: int, late_after_s: float | None = None, now_ms: int | None = None
) -> StoreSnapshot:
    """Run `snapshot_flow` with the blocking client."""
    flow = snapshot_flow(store.keys, sample=sample, late_after_s=late_after_s, now_ms=now_ms)
    commands = next(flow)
    while True:
        try:
            commands = flow.send(store.transaction(commands, raise_on_error=False))
        except StopIteration as end:
            snapshot: StoreSnapshot = end.value
            return snapshot


async def aread_snapshot(
    store: AsyncJobStore,
    *,
    sample: int,
    late_after_s: float | None = None,
    now_ms: int | None = None,
) -> StoreSnapshot:
    """Run `snapshot_flow` on asyncio."""
    flow = snapshot_flow(store.keys, sample=sample, late_after_s=late_after_s, now_ms=now_ms)
    commands = next(flow)
    while True:
        try:
            commands = flow.send(await store.transaction(commands, raise_on_error=False))
        except StopIteration as end:
            snapshot: StoreSnapshot = end.value
            return snapshot


def _store_commands(keys: Keys, overdue_ms: int) -> list[Command]:
    return [
        ("ZCARD", keys.scheduled),
        ("ZRANGE", keys.scheduled, 0, 0, "WITHSCORES"),
        ("ZCOUNT", keys.scheduled, "-inf", overdue_ms),
        ("ZCARD", keys.in_flight),
        ("ZRANGE", keys.in_flight, 0, 0, "WITHSCORES"),
        ("ZCARD", keys.dead),
        *cause_commands(keys),
        ("LLEN", keys.wakeups),
        ("ZRANGE", keys.workers, 0, -1, "WITHSCORES"),
        ("EXISTS", keys.admission),
        ("ZCARD", keys.newer),
    ]


def _parse(
    replies: Replies, tenants: Mapping[str, TenantSnapshot], info: Mapping[str, Any], now_us: int
) -> StoreSnapshot:
    now_ms = now_us // 1000
    scheduled, first_due, overdue, in_flight, first_lease, dead, *rest = replies
    causes, cause_books, wakeups, seen, admission, newer = rest
    return StoreSnapshot(
        tenants=tenants,
        now_ms=now_ms,
        ready={name: _ready(tenant, now_us) for name, tenant in tenants.items()},
        scheduled=Backlog(scheduled, max(0.0, (now_ms - (_first(first_due) or now_ms)) / 1000), overdue),
        in_flight=in_flight,
        due_ms=min((at for at in (_first(first_due), _first(first_lease)) if at is not None), default=None),
        dead=dead,
        dead_by_reason=_by_reason(parse_causes(causes, cause_books)),
        wakeups=wakeups,
        workers={text(name): max(0.0, (now_ms - float(at)) / 1000) for name, at in _pairs(seen)},
        admission_closed=bool(admission),
        newer=newer,
        facts=_facts(info),
    )


def _sound(replies: Replies) -> Replies:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _pairs(reply: list[Any]) -> list[tuple[Any, Any]]:
    """Return members with scores: RESP2 sends them flat."""
    return list(zip(reply[::2], reply[1::2], strict=True))


def _first(reply: list[Any]) -> float | None:
    return float(reply[1]) if reply else None


def _ready(tenant: TenantSnapshot, now_us: int) -> dict[JobClass, Backlog]:
    def backlog(queue: ReadyQueue) -> Backlog:
        age_us = 0 if queue.oldest_us is None else now_us - queue.oldest_us
        return Backlog(queue.size, max(0.0, age_us / 1_000_000), queue.overdue, queue.late)

    return {job_class: backlog(queue) for job_class, queue in tenant.queues.items()}


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
