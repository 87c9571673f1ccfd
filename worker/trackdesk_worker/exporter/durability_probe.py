"""Measures in the background how long an enqueue with durability `fsync` or `replicated` waits.

Producers run in the shops' processes, which the exporter cannot scrape. So it does what such an enqueue does: it
writes, and waits on the same connection until the disk, or a replica, has the write. It does this between scrapes,
because with `appendfsync everysec` it may take a second.
"""

import asyncio
import time

import redis
import redis.asyncio
from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.registry import Collector

from trackdesk_producer import DurabilityNotMet
from trackdesk_producer.contract.runner import asend
from trackdesk_producer.durability import check_durability, confirmation
from trackdesk_producer.receipts import Durability
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.telemetry import catalogue
from trackdesk_worker.telemetry.labels import DurabilityResult

PERIOD_S = 15.0
PATIENCE_S = 2.0
"""Time limit of one try; a producer's default is a second."""
LEVELS = (Durability.FSYNC, Durability.REPLICATED)


class DurabilityProbe:
    """Tries each level in turn; the results since the start of this process are in `collectors`."""

    def __init__(self, store: AsyncJobStore, *, period_s: float = PERIOD_S) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._store = store
        self._period_s = period_s
        wait, probes = catalogue.DURABILITY_WAIT, catalogue.DURABILITY_PROBES
        self._wait = Histogram(wait.name, wait.help, wait.label_names, buckets=wait.buckets, registry=None)
        self._probes = Counter(probes.name, probes.help, probes.label_names, registry=None)
        for level in LEVELS:  # all series from the start: Prometheus sees no increase from an absent series
            self._wait.labels(level.value)
            for result in DurabilityResult:
                self._probes.labels(level.value, result.value)

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """The collectors to register for a scrape."""
        return self._wait, self._probes

    async def run(self) -> None:
        """Try until cancelled; an error counts as a result."""
        while True:
            for level in LEVELS:
                await self.once(level)
            await asyncio.sleep(self._period_s)

    async def once(self, level: Durability) -> DurabilityResult:
        """Try one level and count the result."""
        began = time.perf_counter()
        result = await self._try(level)
        if result is DurabilityResult.MET:
            self._wait.labels(level.value).observe(time.perf_counter() - began)
        self._probes.labels(level.value, result.value).inc()
        return result

    async def _try(self, level: Durability) -> DurabilityResult:
        # A write without effect that still goes to the append-only file and to replicas.
        write = ("INCRBY", self._store.keys.sequence, 0)
        try:
            written, confirmed = await asend(
                self._store.client, [write, *confirmation(level, replicas=1, timeout_s=PATIENCE_S)]
            )
            if isinstance(written, Exception):
                return DurabilityResult.FAILED
            check_durability(level, confirmed, replicas=1)
        except DurabilityNotMet:
            return DurabilityResult.NOT_MET
        except (redis.RedisError, OSError):
            return DurabilityResult.FAILED
        return DurabilityResult.MET
