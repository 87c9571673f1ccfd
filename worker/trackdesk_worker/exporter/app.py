"""The exporter: metrics of the store and health, as an ASGI application. One per deployment."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import redis
import redis.asyncio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from trackdesk_worker.exporter.durability_probe import DurabilityProbe
from trackdesk_worker.exporter.store_metrics import Forecast, StoreCollector
from trackdesk_worker.ops.readiness import astore_ready
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.store.snapshot import StoreSnapshot, aread_snapshot
from trackdesk_worker.telemetry.catalogue import OBJECTIVE_S
from trackdesk_worker.telemetry.health import HealthStatus
from trackdesk_worker.telemetry.labels import TenantNames

SAMPLED = 4
"""Jobs per queue that the forecast of lateness reads; a scrape has to stay cheap."""
TIMEOUT_S = 5.0
"""Time limit for reading the store in one scrape or probe; below Prometheus' scrape timeout of 10 s."""

log = logging.getLogger(__name__)


def create_app(
    store: AsyncJobStore,
    *,
    forecast: Forecast,
    names: TenantNames | None = None,
    timeout_s: float = TIMEOUT_S,
    routes: Sequence[BaseRoute] = (),
) -> Starlette:
    """Return the application; it closes `store` when it shuts down.

    Args:
        store: opened by `bootstrap`.
        forecast: forecasts the backlog of one tenant.
        names: tenants that get their own label.
        timeout_s: limit for reading the store.
        routes: what else this process serves: the console.
    """
    probe = DurabilityProbe(store)
    exporter = _Exporter(store, forecast, names or TenantNames(), timeout_s, probe)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        probing = asyncio.create_task(probe.run())
        yield
        probing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probing
        await store.aclose()

    own = [
        Route("/metrics", exporter.metrics),
        Route("/livez", exporter.livez),
        Route("/readyz", exporter.readyz),
        Route("/startupz", exporter.livez),  # a process that answers has started: there is nothing to load
    ]
    return Starlette(routes=[*own, *routes], lifespan=lifespan)


class _Exporter:
    def __init__(
        self,
        store: AsyncJobStore,
        forecast: Forecast,
        names: TenantNames,
        timeout_s: float,
        probe: DurabilityProbe,
    ) -> None:
        self._store = store
        self._forecast = forecast
        self._names = names
        self._timeout_s = timeout_s
        self._probe = probe
        self._one_at_a_time = asyncio.Lock()  # concurrent scrapes must not read the store concurrently

    async def metrics(self, request: Request) -> Response:
        began = time.perf_counter()
        snapshot = await self._read()
        registry = CollectorRegistry()
        collector = StoreCollector(
            snapshot, self._names, forecast=self._forecast, duration_s=time.perf_counter() - began
        )
        for source in (collector, *self._probe.collectors):
            registry.register(source)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def _read(self) -> StoreSnapshot | None:
        try:
            async with asyncio.timeout(self._timeout_s), self._one_at_a_time:
                return await aread_snapshot(self._store, sample=SAMPLED, late_after_s=OBJECTIVE_S)
        except (redis.RedisError, TimeoutError) as error:
            log.warning("store not read: %s", type(error).__name__)
        except ValueError:  # something other than the scripts wrote to a ledger; the audit names it
            log.exception("store not understood")
        return None

    async def livez(self, request: Request) -> Response:
        """The answer proves liveness: one event loop serves everything."""
        return _answer(HealthStatus(True, "alive"))

    async def readyz(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                return _answer(await astore_ready(self._store))
        except TimeoutError:
            return _answer(HealthStatus(False, f"the store did not answer within {self._timeout_s:g} s"))


def _answer(verdict: HealthStatus) -> Response:
    return JSONResponse(
        {"ok": verdict.ok, "detail": verdict.detail},
        status_code=200 if verdict.ok else 503,
        headers={"Cache-Control": "no-store"},
    )
