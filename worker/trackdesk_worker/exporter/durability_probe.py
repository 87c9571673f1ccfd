"""How long an enqueue with more than memory durability has to wait, tried out in the background.

Shops' own processes hold the producers, and they are not ours to scrape. So the exporter does what such an enqueue
does: it writes, and waits on the same connection until the disk, or a replica, has the write. Beside the scrapes, not
in them: with `appendfsync everysec` it may take a second.
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
"""For one try; a producer's own limit is a second."""
LEVELS = (Durability.FSYNC, Durability.REPLICATED)


class DurabilityProbe:
    """Tries each level in turn; what it learns is in `collectors`, from the start of this process."""

    def __init__(self, store: AsyncJobStore, *, period_s: float = PERIOD_S) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._store = store
        self._period_s = period_s
        wait, probes = catalogue.DURABILITY_WAIT, catalogue.DURABILITY_PROBES
        self._wait = Histogram(wait.name, wait.help, wait.label_names, buckets=wait.buckets, registry=None)
        self._probes = Counter(probes.name, probes.help, probes.label_names, registry=None)
        for level in LEVELS:  # all series from the start: an increase from nothing is none
            self._wait.labels(level.value)
            for result in DurabilityResult:
                self._probes.labels(level.value, result.value)

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """What to register for a scrape."""
        return self._wait, self._probes

    async def run(self) -> None:
        """Try for ever; an error is a result."""
        while True:
            for level in LEVELS:
                await self.once(level)
            await asyncio.sleep(self._period_s)

    async def once(self, level: Durability) -> DurabilityResult:
        """Try one level and count how it went."""
        began = time.perf_counter()
        result = await self._try(level)
        if result is DurabilityResult.MET:
            self._wait.labels(level.value).observe(time.perf_counter() - began)
        self._probes.labels(level.value, result.value).inc()
        return result

    async def _try(self, level: Durability) -> DurabilityResult:
        # A write that changes nothing, and is one all the same: it goes to the append-only file and to replicas.
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
