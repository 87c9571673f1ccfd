"""Samples the ledger's counters every `PERIOD_S` into a ring buffer in memory, which is empty after a restart."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import redis

from trackdesk_producer.contract.record import State
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import ACCEPTED, Book, total
from trackdesk_worker.store.tenant_snapshot import tenant_snapshots

PERIOD_S = 10.0
KEPT = 181
"""Half an hour."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters of the ledger at one moment; `at_s` is monotonic time."""

    at_s: float
    accepted: int
    delivered: int
    dead: int


@dataclass(frozen=True, slots=True)
class Series:
    """Values one period apart, newest last; None where the store could not be read."""

    name: str
    values: tuple[float | None, ...]

    @property
    def last(self) -> float | None:
        """The newest value."""
        return self.values[-1] if self.values else None

    @property
    def highest(self) -> float:
        """The largest value; 0 without any."""
        return max((value for value in self.values if value is not None), default=0.0)


class Sampler:
    """The ring buffer of samples, and the thread that fills it: `with sampler:` runs it."""

    def __init__(
        self,
        store: JobStore,
        *,
        period_s: float = PERIOD_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._period_s = period_s
        self._clock = clock
        self._ring: deque[Sample | None] = deque(maxlen=KEPT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, name="sampler", daemon=True)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=self._period_s)

    def sample(self) -> None:
        """Take one sample."""
        try:
            book = _book(self._store)
        except redis.RedisError as error:
            log.debug("no sample: %s", type(error).__name__)
            self._ring.append(None)
            return
        delivered = book.jobs[State.DELIVERED] + book.jobs[f"pruned_{State.DELIVERED}"]
        self._ring.append(Sample(self._clock(), book.jobs[ACCEPTED], delivered, book.jobs[State.DEAD]))

    def series(self) -> tuple[Series, ...]:
        """Return accepted and delivered jobs per minute, and the number of dead letters."""
        samples = list(self._ring)
        return (
            Series("accepted per minute", _per_minute(samples, [None if s is None else s.accepted for s in samples])),
            Series("delivered per minute", _per_minute(samples, [None if s is None else s.delivered for s in samples])),
            Series("dead letters", tuple(None if s is None else float(s.dead) for s in samples)),
        )

    @property
    def span_s(self) -> float:
        """Seconds that the ring buffer covers."""
        return max(0, len(self._ring) - 1) * self._period_s

    def _go(self) -> None:
        self.sample()
        while not self._stop.wait(self._period_s):
            self.sample()


def _book(store: JobStore) -> Book:
    books = []
    for call in tenant_snapshots(store.keys, store.tenants(), overdue_before_us=0):
        some = store.run(call)
        books += [one.book for one in some]
    return total(books)


def _per_minute(samples: Sequence[Sample | None], counts: Sequence[int | None]) -> tuple[float | None, ...]:
    rates: list[float | None] = []
    for i in range(1, len(samples)):
        before, now, count, earlier = samples[i - 1], samples[i], counts[i], counts[i - 1]
        if before is None or now is None or count is None or earlier is None or now.at_s <= before.at_s:
            rates.append(None)
        else:
            rates.append(max(0.0, (count - earlier) / (now.at_s - before.at_s) * 60))
    return tuple(rates)
