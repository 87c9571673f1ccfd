"""The delivery loop of one process: claim → send → settle, many requests in flight, one round trip at a time.

A sliding window: whenever requests have ended, one round trip settles them and claims as many as fit. Nothing waits
for the slowest of a batch. The loop runs for the life of the process on an event loop of its own; wake-ups (Celery's
and the maintenance's) only say that there may be something to claim.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import RedisError

from trackdesk_producer.contract.runner import result
from trackdesk_producer.contract.scripts import ScriptCall
from trackdesk_worker.delivery.attempt import Attempts, Finished, StoreClock, release
from trackdesk_worker.domain.claim import ClaimedJob, Verb
from trackdesk_worker.domain.limits import Breaker, Limits
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.store.jobs import Claims
from trackdesk_worker.telemetry.health import Health
from trackdesk_worker.telemetry.metrics import WorkerMetrics

GATHER_S = 0.003
"""While many requests are in flight, ended ones are gathered this long, so that a trip carries several."""
BUSY = 16
TURNS = 3
"""Of the event loop, from the transport's word that an answer is there to the end of its delivery."""
SOON_S = 0.02
"""A claim that is due sooner counts as work at hand."""
BEAT_S = 2.0
ROUND_TRIP_S = 15.0
"""Limit for one trip, however slowly its replies drip; below the age at which a loop counts as stuck."""
SEND_MARGIN_S = 0.5
"""A request is sent only if its lease outlives its timeout by this: time to settle the answer."""
STORE_RETRY_S = (0.1, 2.0)
"""First and longest pause after a failed trip."""


@dataclass(frozen=True, slots=True)
class DeliveryConfig:
    """Limits of one process."""

    concurrency: int
    lease_ms: int
    timeout_s: float
    """Of one request in all."""
    dedupe_window_ms: int
    limits: Limits
    slots: str
    breaker: Breaker


class DeliveryLoop:
    """One process' deliveries. All methods belong to its event loop, except `wake` and `stop_claiming`."""

    def __init__(
        self,
        *,
        store: AsyncJobStore,
        attempts: Attempts,
        config: DeliveryConfig,
        metrics: WorkerMetrics,
        health: Health,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._config = config
        self._metrics = metrics
        self._health = health
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._in_flight: dict[str, tuple[asyncio.Task[None], float]] = {}
        """Token → its delivery and the end of its lease; the oldest is first."""
        self._pending: deque[tuple[float, Finished]] = deque()
        """What is to be settled, with the end of its lease (monotonic seconds): later, a settlement changes nothing."""
        self._claim_at: float | None = None
        """When to claim next; None: not before a wake-up."""
        self._more_waits = False
        """Whether the last claim left something waiting: what a settlement frees may let it go at once."""
        self._stopping = False
        self._store_pause_s = 0.0

    def wake(self) -> None:
        """Report that there may be something to claim. Any thread may call it, also after the loop has ended."""
        self._on_loop(self._claim_now)

    def stop_claiming(self) -> None:
        """Claim nothing more; what is in flight goes on. Any thread may call it."""
        self._on_loop(self._stop_now)

    async def until_quiet(self, limit_s: float) -> bool:
        """Wait until there is nothing to claim now; False if there still is work after `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Deliver until `stop_claiming`, then until nothing is in flight and all is settled."""
        while not (self._stopping and not self._in_flight and not self._pending):
            self._health.beat("delivery")
            await self._next_event()
            self._changed.clear()
            if len(self._in_flight) >= BUSY:
                await self._gather()
            await self._round_trip()
            self._give_up_overdue()
            self._note_quiet()
        self._health.unregister("delivery")

    def _on_loop(self, what: Callable[[], None]) -> None:
        # A loop that has ended claims nothing more; the maintenance, which outlives it, must not die of that.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    def _claim_now(self) -> None:
        if not self._stopping:
            self._claim_at = self._loop.time()
            self._quiet.clear()
            self._changed.set()

    def _stop_now(self) -> None:
        self._stopping = True
        self._claim_at = None
        self._quiet.set()
        self._changed.set()

    async def _next_event(self) -> None:
        """Wait for an ended request, a wake-up, or the time of the next claim; at most `BEAT_S`."""
        if self._store_pause_s:
            await asyncio.sleep(self._store_pause_s)
            return
        patience = BEAT_S
        if self._claim_at is not None and self._room() > 0:
            patience = min(patience, max(0.0, self._claim_at - self._loop.time()))
        if patience > 0:
            try:
                async with asyncio.timeout(patience):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _gather(self) -> None:
        """Let ended requests gather, then handle all of them.

        The whole thread sleeps, not only this task, so that the transport's thread reads answers without asking for the
        interpreter after each. On two idle cores a delivery cost 14 % less processor time than when the event loop went
        on; on cores that other processes kept busy there was no difference, and without any gathering a delivery took
        1.06 times the processor time (worker and store: 1.07; medians of 7 paired runs).
        """
        time.sleep(GATHER_S)  # noqa: ASYNC251 - nothing else lives on this event loop
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _room(self) -> int:
        # Unsettled jobs take room too: while the store is away nothing more is claimed and nothing piles up.
        return self._config.concurrency - len(self._in_flight) - len(self._pending)

    async def _round_trip(self) -> None:
        """Settle what has ended and claim what fits, in one round trip."""
        self._attempts.flush_log()  # first: what is settled has been logged
        batch = list(self._pending)
        room = self._room() + len(batch)
        due = self._claim_at is not None and self._claim_at <= self._loop.time()
        due = due or (bool(batch) and self._more_waits)
        wanted = room if due and not self._stopping else 0
        calls: list[ScriptCall[Any]] = []
        if batch:
            calls.append(
                self._store.jobs.settle(
                    [finished.settlement for _, finished in batch],
                    dedupe_window_ms=self._config.dedupe_window_ms,
                    breaker=self._config.breaker,
                )
            )
        if wanted > 0:
            # Taken before the trip: a wake-up that comes meanwhile must not be forgotten.
            self._claim_at = None
            config = self._config
            calls.append(
                self._store.jobs.claim(wanted, lease_ms=config.lease_ms, limits=config.limits, slots=config.slots)
            )
        if not calls:
            return
        started = time.monotonic()
        try:
            async with asyncio.timeout(ROUND_TRIP_S):
                replies = await self._store.run_raw(calls)
        except (RedisError, OSError) as error:
            self._store_failed(error, claimed=wanted > 0)
            return
        took_s = time.monotonic() - started
        # Each reply on its own: a claim that the store has carried out counts, even if it refused to settle.
        refused: RedisError | None = None
        claim_refused = False
        if batch:
            try:
                self._settled(batch, result(calls[0], replies[0]), took_s)
            except RedisError as error:
                refused = error
        if wanted > 0:
            try:
                self._claimed(result(calls[-1], replies[-1]), started, took_s)
            except RedisError as error:
                refused, claim_refused = error, True
        if refused is None:
            self._store_pause_s = 0.0
        else:
            self._store_failed(refused, claimed=claim_refused)

    def _store_failed(self, error: Exception, *, claimed: bool) -> None:
        # Claims of a trip whose reply was lost come back by themselves when their lease ends.
        first, longest = STORE_RETRY_S
        self._store_pause_s = min(longest, max(first, self._store_pause_s * 2))
        if claimed:
            self._claim_at = self._loop.time()
        self._metrics.store_error()
        self._log.warning("store.unavailable", error=type(error).__name__, detail=str(error)[:200])
        now = self._loop.time()
        while self._pending and self._pending[0][0] < now:
            _, late = self._pending.popleft()
            self._log.error("settle.abandoned", job=late.job.id, token=late.job.token)
            if late.span is not None:
                late.span.settled("abandoned")

    def _settled(self, batch: list[tuple[float, Finished]], kept: list[bool], took_s: float) -> None:
        for _ in batch:
            self._pending.popleft()
        for (_, item), ok in zip(batch, kept, strict=True):
            if item.span is not None:
                item.span.settled("kept" if ok else "lease_lost")
            if not ok:
                self._log.warning("settle.lease_lost", job=item.job.id, token=item.job.token)
            elif item.settlement.verb is Verb.DELIVER:
                self._metrics.delivered(
                    how=item.settlement.reason,
                    end_to_end_s=(item.clock.now_ms() - item.job.accepted_ms) / 1000,
                    job_class=item.job.job_class,
                )
        self._metrics.settled(len(batch), kept.count(False), took_s)

    def _claimed(self, claims: Claims, sent_at: float, took_s: float) -> None:
        self._metrics.claimed(len(claims.jobs), took_s)
        for job_id in claims.unreadable:
            self._log.error("claim.unreadable", job=job_id)
        clock = StoreClock(claims.now_ms, sent_at + took_s)
        lease_end = sent_at + self._config.lease_ms / 1000  # no later than in the store, which began it meanwhile
        for job in claims.jobs:
            # The stop came while the claim was under way, or what was to be settled beside it still takes the room.
            if self._stopping or self._room() < 1:
                self._pending.append((lease_end, release(job, clock)))
                self._changed.set()
            else:
                self._in_flight[job.token] = self._loop.create_task(self._deliver(job, clock, lease_end)), lease_end
        self._metrics.in_flight(len(self._in_flight))
        self._more_waits = claims.wait_ms is not None
        if claims.wait_ms is not None and not self._stopping and self._claim_at is None:
            self._claim_at = self._loop.time() + claims.wait_ms / 1000

    async def _deliver(self, job: ClaimedJob, clock: StoreClock, lease_end: float) -> None:
        try:
            if time.monotonic() + self._config.timeout_s + SEND_MARGIN_S > lease_end:
                # The reply, this loop or the whole process was held up: another worker may have the job before the
                # request ends.
                self._log.warning("delivery.claim_too_old", job=job.id)
                self._pending.append((lease_end, release(job, clock)))
                return
            finished = await self._attempts.make(job, clock)
        except asyncio.CancelledError:
            self._log.error("delivery.overdue", job=job.id)
            raise
        except Exception:
            # A bug of ours in what follows the answer. The lease takes the job back, and attempts bound how often.
            self._log.exception("delivery.crashed", job=job.id)
        else:
            if finished.error is not None:
                self._log.error("delivery.crashed", job=job.id, exc_info=finished.error)
            self._pending.append((lease_end, finished))
        finally:
            del self._in_flight[job.token]
            self._changed.set()

    def _give_up_overdue(self) -> None:
        """Cancel requests that outlived their lease.

        The transport ends each one long before; were it ever stuck, the place of the request would be lost for good.
        """
        now = self._loop.time()
        for task, lease_end in self._in_flight.values():
            if lease_end > now:
                break
            task.cancel()

    def _note_quiet(self) -> None:
        now = self._loop.time()
        if self._stopping or self._claim_at is None or self._claim_at > now + SOON_S:
            self._quiet.set()
