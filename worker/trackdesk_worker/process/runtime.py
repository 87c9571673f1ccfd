"""One worker process from the inside: the delivery loop on a thread of its own, and the maintenance beside it."""

import asyncio
import os
import random
import signal
import socket
import threading

import structlog
import uvloop

from trackdesk_worker.config.settings import Settings
from trackdesk_worker.config.tenants import RESTED_S, Tenants
from trackdesk_worker.delivery.attempt import Attempts
from trackdesk_worker.delivery.loop import DeliveryConfig, DeliveryLoop
from trackdesk_worker.maintenance import all_duties
from trackdesk_worker.maintenance.loop import MaintenanceLoop
from trackdesk_worker.process import bootstrap
from trackdesk_worker.process.watchdog import Watchdog
from trackdesk_worker.telemetry.health import Health
from trackdesk_worker.telemetry.logging import buffered_log
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.telemetry.tracing import Tracing

SLICE_S = 10.0
"""How long one Celery task may stay with the work before it wakes again and ends, so that Celery sees it move."""
CONSUMER = "consumer"
"""Celery's part of the process, as the health check names it."""


class WorkerRuntime:
    """Starts, wakes and stops the parts of one process. Its methods belong to Celery's threads."""

    def __init__(
        self, settings: Settings, *, metrics: WorkerMetrics, health: Health, tracing: Tracing | None = None
    ) -> None:
        self._settings = settings
        self._tracing = tracing
        self._metrics = metrics
        self._health = health
        self._log = structlog.get_logger("trackdesk.worker")
        self._tenants = Tenants(settings, written_before_s=RESTED_S)
        self._store = bootstrap.open_store(settings)
        self._ready = threading.Event()
        self.failed = False
        self._delivery: DeliveryLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run_delivery, name="delivery", daemon=True)
        self._maintenance = MaintenanceLoop(
            all_duties(
                bootstrap.open_store(settings),
                tenants=self._tenants,
                worker_id=f"{socket.gethostname()}:{os.getpid()}",
                lease_ms=settings.lease_ms,
                metrics=metrics,
                log=self._log,
                wake=self.wake,
                beat=lambda: health.beat("maintenance"),
            ),
            metrics=metrics,
            health=health,
            log=self._log,
        )
        self._watchdog = Watchdog(health, failed=self._fail, log=self._log)

    def start(self) -> None:
        """Start delivering; wake-ups count from here on."""
        for part in ("delivery", "maintenance", CONSUMER):
            self._health.watch(part)
        self._watchdog.start()
        self._thread.start()
        self._ready.wait()
        self._maintenance.start()

    def wake(self) -> None:
        """Report that there may be something to claim."""
        if self._delivery is not None:
            self._delivery.wake()

    def consumer_beats(self) -> None:
        """Say that Celery's loop turns."""
        self._health.touch(CONSUMER)

    def run_slice(self) -> None:
        """Stay with the work until there is none to claim, or for a slice of time; then wake if there is more."""
        if self._delivery is None or self._loop is None or not self._thread.is_alive():
            return
        self._metrics.slice()
        self._delivery.wake()
        quiet = asyncio.run_coroutine_threadsafe(self._delivery.until_quiet(SLICE_S), self._loop).result()
        if not quiet:
            self._store.run(self._store.jobs.wake())

    def stop_claiming(self) -> None:
        """Claim nothing more. Ends a slice at once; requests in flight go on."""
        self._health.unregister(CONSUMER)
        if self._delivery is not None and self._thread.is_alive():
            self._delivery.stop_claiming()

    def stop(self) -> None:
        """Stop in good order: what is in flight ends and is settled; nothing stays leased."""
        self.stop_claiming()
        # Requests end within their timeout; a store that is away must not keep us for ever.
        self._thread.join(self._settings.timeout_s + self._settings.lease_ms / 1000)
        self._maintenance.stop()
        self._watchdog.stop()

    def _fail(self) -> None:
        self.failed = True

    def _run_delivery(self) -> None:
        try:
            # With asyncio's own loop a delivery took 1.13 times the processor time (median of 7 paired runs).
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._deliver())
        except Exception:
            # A process that no longer delivers must not look alive: it ends, and its supervisor starts another.
            self.failed = True
            self._log.exception("delivery.loop_failed")
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            self._ready.set()

    async def _deliver(self) -> None:
        settings = self._settings
        store = bootstrap.open_async_store(settings)
        sender = bootstrap.open_trackdesk(settings, self._tenants)
        try:
            self._delivery = DeliveryLoop(
                store=store,
                attempts=Attempts(
                    sender=sender,
                    settings_for=self._tenants.get,
                    metrics=self._metrics,
                    log=buffered_log("trackdesk.delivery"),
                    rng=random.Random(),  # noqa: S311 - spreads retries, guards nothing
                    tracing=self._tracing,
                ),
                config=DeliveryConfig(
                    concurrency=settings.concurrency,
                    lease_ms=settings.lease_ms,
                    timeout_s=settings.timeout_s,
                    dedupe_window_ms=settings.dedupe_window_s * 1000,
                    limits=self._tenants.default.limits,
                    slots=settings.shares.slots(),
                    breaker=settings.breaker,
                ),
                metrics=self._metrics,
                health=self._health,
                log=self._log,
            )
            self._loop = asyncio.get_running_loop()
            self._ready.set()
            await self._delivery.run()
        finally:
            await sender.aclose()
            await store.aclose()
