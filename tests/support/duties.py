"""The background duties of a worker, without their thread, over a store of a test."""

from collections.abc import Mapping
from typing import Any

import structlog
from structlog.testing import LogCapture

from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.maintenance import all_duties
from trackdesk_worker.maintenance.duty import DutyContext
from trackdesk_worker.maintenance.loop import Maintenance
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.telemetry.metrics import WorkerMetrics


class Clock:
    """Monotonic seconds that move only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class Duties:
    """Every duty of one process, with what it counted and logged."""

    def __init__(self, store: JobStore, tenants: Tenants | None = None) -> None:
        self.metrics = WorkerMetrics()
        self._log = LogCapture()
        self.log = structlog.wrap_logger(None, processors=[self._log])
        self.context = DutyContext(store, self.metrics, self.log)
        self.woken = 0
        self.maintenance = self.made(store, tenants or Tenants(load_settings()))

    def made(self, store: JobStore, tenants: Tenants) -> Maintenance:
        """Return the duties as a worker makes them."""
        return all_duties(
            store, tenants=tenants, worker_id="w", lease_ms=30_000, metrics=self.metrics, log=self.log,
            wake=self._wake,
        )  # fmt: skip

    def run_once(self) -> None:
        """Run one round."""
        self.maintenance.run_once()

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """Return the events of one name that were logged."""
        return [event for event in self._log.entries if event["event"] == name]

    def counted(self, metric: str, **labels: str) -> float:
        """Return the present value of a metric."""
        value = self.metrics.registry.get_sample_value(metric, labels)
        assert value is not None, (metric, labels)
        return value

    def _wake(self) -> None:
        self.woken += 1
