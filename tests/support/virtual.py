"""Hours in seconds: real scripts on a real server, the real reading and deciding, the simulator's engine, one clock.

Only sockets and waiting are left out. An event is a claim, a request's end, or a maintenance run; the clock jumps from
one to the next.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.support.simulator import sale
from tests.support.store import START_MS, Item, Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass
from trackdesk_producer.contract.runner import run
from trackdesk_producer.conversion.model import parse_conversion
from trackdesk_producer.conversion.wire import fingerprint, post_body
from trackdesk_simulator import ManualClock, SimulatorConfig
from trackdesk_simulator.engine import Engine
from trackdesk_simulator.ledger import Ledger
from trackdesk_simulator.reply import Delivery
from trackdesk_worker.config.tenants import TenantSettings
from trackdesk_worker.delivery.attempt import Attempts, Finished, StoreClock
from trackdesk_worker.domain.claim import ClaimedJob, Verb
from trackdesk_worker.domain.limits import Breaker, Limits, Shares
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.store.ledger import Book, read_books, total
from trackdesk_worker.telemetry.logging import BufferedLog
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind

MAINTENANCE_MS = 500
LOOK_MS = 50
LIMITS, BREAKER, SHARES, POLICY = Limits(), Breaker(), Shares(), Policy()
"""The product's own."""


@dataclass
class Seen:
    """What a run left behind, for asserting."""

    claims: list[tuple[int, ClaimedJob]] = field(default_factory=list)
    """When which job was sent."""

    def waits_ms(self, job_class: JobClass) -> list[int]:
        """From acceptance to the first request, sorted."""
        return sorted(at - job.accepted_ms for at, job in self.claims if job.job_class is job_class)


class _Sender:
    """Hands `Attempts.make` the answer that the event loop below kept for it."""

    def __init__(self) -> None:
        self.kept: tuple[Answer | Failure, float] = (Failure(FailureKind.TIMEOUT, True, ""), 0.0)
        self.body = b""

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        return self.kept


def _at_once(attempt: Coroutine[Any, Any, Finished]) -> Finished:
    """Run a coroutine that waits for nothing, without an event loop."""
    try:
        attempt.send(None)
    except StopIteration as end:
        finished: Finished = end.value
        return finished
    raise AssertionError("the attempt waited for something")


class World:
    """A store, `processes` delivery loops and a simulated Trackdesk on one clock."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        simulator: dict[str, Any] | None = None,
        processes: int = 1,
        concurrency: int = 256,
        limits: Limits = LIMITS,
        breaker: Breaker = BREAKER,
        shares: Shares = SHARES,
        policy: Policy = POLICY,
        latency_ms: int = 100,
        timeout_ms: int = 10_000,
        seed: int = 1,
        start_ms: int = START_MS,
    ) -> None:
        self.store = Store(client, keys, proven=False)
        self.store.now_ms = start_ms
        self.clock = ManualClock(start_ms / 1000)
        self.metrics = WorkerMetrics()
        self.ledger = Ledger()
        self.engine = Engine(SimulatorConfig.model_validate(simulator or {}), ledger=self.ledger, clock=self.clock)
        self.seen = Seen()
        self.instead: Callable[[ClaimedJob], Answer | None] = lambda _: None
        """What something before Trackdesk, a firewall for one, answers to a job in its place."""
        self.limits, self.breaker = limits, breaker
        self.store.breaker, self.store.slots = breaker, shares.slots()
        self.latency_ms, self.timeout_ms = latency_ms, timeout_ms
        self.lease_ms = timeout_ms + 20_000
        self.rng = random.Random(seed)
        self._concurrency = concurrency
        self._in_flight = [0] * processes
        self._claim_at: list[int | None] = [start_ms] * processes
        self._alive = [True] * processes
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._sender = _Sender()
        self._ended: list[Finished] = []
        self._settled_by: set[int] = set()
        settings = TenantSettings(limits, Endpoint("https://{tenant}.trackdesk.com"), policy, CreatedAt.LATE, False)
        self._attempts = Attempts(
            sender=self._sender,
            settings_for=lambda _: settings,
            metrics=self.metrics,
            log=BufferedLog("test", print, enabled=False),
            rng=self.rng,
        )
        self.at(start_ms, self._maintain)

    @property
    def now_ms(self) -> int:
        """The time."""
        return self.store.now_ms

    @property
    def in_flight(self) -> int:
        """Requests under way, of all processes."""
        return sum(self._in_flight)

    def at(self, when_ms: int, what: Callable[[], object]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (when_ms, next(self._order), what))

    def enqueue(self, *external_ids: str, tenant: str = "acme", **changes: Any) -> None:
        """Enqueue sales now."""
        items = []
        for external_id in external_ids:
            conversion = parse_conversion(sale(external_id, **changes))
            items.append(
                Item(
                    f"{tenant}/{external_id}",
                    conversion.amount or "-",
                    conversion.currency or "XXX",
                    0,
                    fingerprint(conversion),
                    post_body(conversion).decode(),
                )
            )
        for start in range(0, len(items), 500):
            self.store.enqueue(*items[start : start + 500])
        self._wake()

    def enqueue_later(self, when_ms: int, external_id: str, **more: Any) -> None:
        """Enqueue one sale at a time to come."""
        self.at(when_ms, lambda: self.enqueue(external_id, **more))

    def kill(self, process: int) -> None:
        """Kill one process: what it holds is lost until its leases end."""
        self._alive[process] = False

    def book(self) -> Book:
        """All books."""
        return total(read_books(self.store).values())

    def run_until(self, until: Callable[[], bool], *, at_most_ms: int) -> None:
        """Live on until the condition holds, looked at every `LOOK_MS`; fail when it does not come in time."""
        end = self.now_ms + at_most_ms
        while not until():
            alive = self._step(end)
            look_at = min(end, self.now_ms + LOOK_MS)
            while self._step(look_at):
                pass
            if not alive and not until():
                raise AssertionError(f"not within {at_most_ms / 1000:g} s of virtual time: {self.book().jobs}")

    def run_for(self, duration_ms: int) -> None:
        """Live on for a while."""
        end = self.now_ms + duration_ms
        while self._step(end):
            pass
        self._move_to(end)

    def finished(self) -> bool:
        """Whether nothing is left to send."""
        jobs = self.book().jobs
        return jobs["ready"] + jobs["scheduled"] + jobs["in_flight"] == 0

    def _step(self, end: int) -> bool:
        claims = [
            (at, index)
            for index, at in enumerate(self._claim_at)
            if at is not None and self._alive[index] and self._in_flight[index] < self._concurrency
        ]
        claim = min(claims, default=None)
        event = self._events[0] if self._events else None
        if claim is not None and (event is None or claim[0] <= event[0]):
            if claim[0] > end:
                return False
            self._move_to(max(claim[0], self.now_ms))
            self._claim(claim[1])
            return True
        if event is None or event[0] > end:
            return False
        heapq.heappop(self._events)
        self._move_to(event[0])
        event[2]()
        return True

    def _move_to(self, now_ms: int) -> None:
        self.store.now_ms = now_ms
        self.clock.set(now_ms / 1000)

    def _wake(self) -> None:
        for index in range(len(self._claim_at)):
            self._claim_at[index] = self.now_ms

    def _claim(self, process: int) -> None:
        room = self._concurrency - self._in_flight[process]
        self._claim_at[process] = None
        began = time.perf_counter()
        claims = self.store.claim(room, limits=self.limits, lease_ms=self.lease_ms)
        self.metrics.claimed(len(claims.jobs), time.perf_counter() - began)
        if claims.wait_ms is not None:
            self._claim_at[process] = self.now_ms + max(1, claims.wait_ms)
        clock = StoreClock(claims.now_ms, self.now_ms / 1000, lambda: self.now_ms / 1000)
        for job in claims.jobs:
            self.seen.claims.append((self.now_ms, job))
            self._in_flight[process] += 1
            answer, duration_ms = self._arrive(job)
            self.at(self.now_ms + duration_ms, self._ending(process, job, clock, answer, duration_ms))

    def _arrive(self, job: ClaimedJob) -> tuple[Answer | Failure, int]:
        instead = self.instead(job)
        if instead is not None:
            return instead, self.latency_ms
        tenant = self.engine.tenant(job.tenant)
        assert tenant is not None
        reply = self.engine.receive(tenant, "POST", "", job.body, None)
        duration_ms = self.latency_ms + round(reply.wait_s * 1000)
        if duration_ms >= self.timeout_ms or reply.delivery is Delivery.HANG:
            return Failure(FailureKind.TIMEOUT, sent=True, detail="no answer"), self.timeout_ms
        if reply.delivery is Delivery.DROP:
            return Failure(FailureKind.CONNECTION_LOST, sent=True, detail="reset"), duration_ms
        retry_after = None if reply.retry_after_s is None else str(reply.retry_after_s)
        return Answer(reply.status, reply.content_type, retry_after, reply.body), duration_ms

    def _ending(
        self, process: int, job: ClaimedJob, clock: StoreClock, answer: Answer | Failure, duration_ms: int
    ) -> Callable[[], None]:
        def end() -> None:
            self._in_flight[process] -= 1
            if not self._alive[process]:
                return
            self._sender.kept = (answer, duration_ms / 1000)
            if not self._ended:
                self.at(self.now_ms, self._settle)
            self._ended.append(_at_once(self._attempts.make(job, clock)))
            self._settled_by.add(process)

        return end

    def _settle(self) -> None:
        """Settle what ended in this ms in one trip, as a delivery loop does."""
        ended, self._ended = self._ended, []
        began = time.perf_counter()
        kept = self.store.settle(*(f.settlement for f in ended))
        self.metrics.settled(len(ended), kept.count(False), time.perf_counter() - began)
        for finished, ok in zip(ended, kept, strict=True):
            if ok and finished.settlement.verb is Verb.DELIVER:
                self.metrics.delivered(
                    how=finished.settlement.reason,
                    end_to_end_s=(self.now_ms - finished.job.accepted_ms) / 1000,
                    job_class=finished.job.job_class.value,
                )
        for process in self._settled_by:
            if self._claim_at[process] is None:
                self._claim_at[process] = self.now_ms
        self._settled_by.clear()

    def _maintain(self) -> None:
        self.metrics.maintenance("promoted", self.store.promote())
        self.store.reclaim()
        if run(self.store.client, self.store.jobs.wake(now_ms=self.now_ms)):
            self._wake()
        # Straight to the next thing that maintenance could find, instead of twice a second through quiet hours.
        heads = [
            self.store.client.zrange(key, 0, 0, withscores=True)
            for key in (self.store.keys.scheduled, self.store.keys.in_flight)
        ]
        turn = self.store.client.zrange(self.store.keys.turn, 0, 0, withscores=True)
        due = [int(head[0][1]) for head in heads if head] + [int(head[1] / 1000) for head in turn]
        self.at(max(self.now_ms + MAINTENANCE_MS, min(due, default=self.now_ms + 60_000)), self._maintain)
