"""Hours of metrics that the product itself made, in seconds: the virtual world, scraped as Prometheus would.

Sales of three shops, and the troubles that dashboards are for: an outage, a type that is not configured and the redrive
after it, a wrong key, a bulk import, 429s, lost click ids, a pause. All numbers come from the product's own
registries; only the clock is made.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import redis
import redis.asyncio
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.virtual import World
from trackdesk_producer import Durability
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.domain.limits import Limits, Shares
from trackdesk_worker.exporter.durability_probe import DurabilityProbe
from trackdesk_worker.exporter.store_metrics import StoreCollector
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.store.snapshot import aread_snapshot
from trackdesk_worker.telemetry.catalogue import OBJECTIVE_S
from trackdesk_worker.telemetry.labels import TenantNames

SHOPS = {"acme": 0.16, "nova": 0.08, "zeta": 0.05}
"""Sales per second."""
LIMITS = Limits(rate_per_s=5)
FAULTS = {"faults": {"error_rate": 0.02, "commit_then_drop": 0.01, "slow_body": 0.03, "slow_body_s": 0.6}}
EXPORTER = 'job="trackdesk-exporter",instance="exporter:9463"'
WORKER = 'job="trackdesk-worker",instance="worker:9464"'


@dataclass(frozen=True)
class Span:
    """Hours that end at `end_ms`, scraped every `every_s`."""

    hours: float
    end_ms: int
    every_s: int = 15

    @property
    def start_ms(self) -> int:
        return self.end_ms - round(self.hours * 3_600_000)


def make_history(directory: Path, span: Span, file: Path) -> None:
    """Live through the span and write every scrape to `file`, as OpenMetrics."""
    primary = EmbeddedServer(directory / "primary", config={"maxmemory": "64mb"})
    replica = EmbeddedServer(directory / "replica", config={"replicaof": f"127.0.0.1 {primary.port}"})
    primary.start()
    replica.start()
    try:
        with redis.Redis(port=primary.port) as client, file.open("w", encoding="utf-8") as output:
            _live(World(client, Keys("made"), simulator=FAULTS, limits=LIMITS, start_ms=span.start_ms), span, output)
            output.write("# EOF\n")
    finally:
        replica.stop()
        primary.stop()


def _live(world: World, span: Span, output: TextIO) -> None:
    rng = random.Random(1)
    _sell(world, span, rng)
    _trouble(world, span)
    with asyncio.Runner() as runner:
        scraper = _Scraper(world)
        for now_ms in range(span.start_ms, span.end_ms + 1, span.every_s * 1000):
            world.run_for(now_ms - world.now_ms)
            world.latency_ms = rng.randint(60, 240)
            output.write(runner.run(scraper.scrape()))
        runner.run(scraper.close())


def _sell(world: World, span: Span, rng: random.Random) -> None:
    for shop, per_s in SHOPS.items():
        at_ms = float(span.start_ms)
        number = 0
        while (at_ms := at_ms + rng.expovariate(per_s) * 1000) < span.end_ms:
            number += 1
            # More at noon than at night; some click ids are lost in the last third at one shop.
            lost = shop == "nova" and at_ms > span.start_ms + 0.7 * (span.end_ms - span.start_ms) and number % 3 == 0
            changes: dict[str, Any] = {"cid": f"unpaired-{number}"} if lost else {}
            changes["amount"] = {"value": f"{rng.lognormvariate(3.6, 0.7):.2f}"}
            changes["currency"] = {"code": "USD" if shop == "nova" else "EUR"}
            world.enqueue_later(round(at_ms), f"{shop}-{number}", tenant=shop, **changes)
            if number % 40 == 0:  # the shop repeats itself, and once in a while contradicts itself
                world.enqueue_later(round(at_ms) + 2_000, f"{shop}-{number}", tenant=shop, **changes)
            if number % 90 == 0:
                world.enqueue_later(round(at_ms) + 2_500, f"{shop}-{number}", tenant=shop, amount={"value": "1"})


def _trouble(world: World, span: Span) -> None:
    length_ms = span.end_ms - span.start_ms

    def at(share: float, what: Callable[[], object]) -> None:
        world.at(span.start_ms + round(share * length_ms), what)

    def tenant(name: str, **settings: Any) -> Callable[[], None]:
        return lambda: world.engine.configure(world.engine.config.patched({"tenants": {name: settings}}))

    def redrive() -> None:
        dead = [identity.decode() for identity in world.store.client.zrange(world.store.keys.dead, 0, -1)]
        world.store.discard(*dead[:3])
        world.store.redrive(*dead[3:])

    at(0.15, tenant("acme", outage="hang"))
    at(0.20, tenant("acme", outage="off"))
    at(0.32, tenant("zeta", types={"sale": {"configured": False}}))
    at(0.42, tenant("zeta", types={"sale": {"configured": True}}))
    at(0.48, redrive)
    at(0.55, tenant("nova", key_mode="revoked"))
    at(0.60, tenant("nova", key_mode="optional"))
    at(0.66, lambda: world.enqueue(*(f"import-{number}" for number in range(round(150 * span.hours))), tenant="acme"))
    at(0.84, tenant("acme", rate_limit={"per_s": 0.05, "lockout_s": 20}))
    at(0.87, tenant("acme", rate_limit=None))
    at(0.92, tenant("zeta", types={"sale": {"configured": False}}))
    at(0.97, lambda: world.store.pause("nova"))
    at(0.985, tenant("acme", outage="503"))


class _Scraper:
    """Reads what a worker and an exporter would answer at the world's time."""

    def __init__(self, world: World) -> None:
        port = world.store.client.connection_pool.connection_kwargs["port"]
        self._world = world
        self._store = AsyncJobStore(redis.asyncio.Redis(port=port, protocol=2), world.store.keys)
        self._probe = DurabilityProbe(self._store)
        self._names = TenantNames()
        self._scrapes = 0
        self._forecast = Forecaster(Tenants(load_settings()), Shares())

    async def scrape(self) -> str:
        world = self._world
        world.store.client.zadd(world.store.keys.workers, {"worker:1": world.now_ms})
        world.metrics.heartbeat()
        world.metrics.in_flight(world.in_flight)
        self._scrapes += 1
        if self._scrapes % 8 == 1:  # each takes real time: the disk's
            for level in (Durability.FSYNC, Durability.REPLICATED):
                await self._probe.once(level)
        snapshot = await aread_snapshot(self._store, sample=4, late_after_s=OBJECTIVE_S, now_ms=world.now_ms)
        registry = CollectorRegistry()
        registry.register(StoreCollector(snapshot, self._names, forecast=self._forecast, duration_s=0.004))
        for collector in self._probe.collectors:
            registry.register(collector)
        return _samples(registry, EXPORTER, world.now_ms) + _samples(world.metrics.registry, WORKER, world.now_ms)

    async def close(self) -> None:
        await self._store.aclose()


def _samples(registry: CollectorRegistry, target: str, now_ms: int) -> str:
    at = f"{now_ms / 1000:.3f}"
    lines = [f"up{{{target}}} 1 {at}"]
    for line in generate_latest(registry).decode().splitlines():
        if line and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            name, brace, labels = series.partition("{")
            lines.append(f"{name}{{{labels[:-1] + ',' if brace and labels != '}' else ''}{target}}} {value} {at}")
    return "\n".join(lines) + "\n"
