"""Jobs whose lease ran out come back: their process died, hung or lost the store."""

from typing import ClassVar

from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.maintenance.duty import BATCH, Duty, DutyContext, Turn
from trackdesk_worker.telemetry.labels import DutyName, MaintenanceKind


class Reclaim(Duty):
    """Takes lost claims back."""

    name: ClassVar = DutyName.RECLAIM
    share_s: ClassVar = 0.5

    def __init__(self, context: DutyContext, tenants: Tenants, lease_ms: int) -> None:
        super().__init__(context)
        self._tenants = tenants
        self._lease_ms = lease_ms

    def run_once(self, turn: Turn) -> None:
        """Take back what was lost."""
        ready = buried = 0

        def step() -> int:
            nonlocal ready, buried
            taken = self._store.run(
                self._store.jobs.reclaim(BATCH, policy=self._tenants.default.policy, lease_ms=self._lease_ms)
            )
            ready, buried = ready + taken.ready, buried + taken.buried
            return taken.ready + taken.buried

        try:
            turn.drain(step)
        finally:
            self._metrics.maintenance(MaintenanceKind.RECLAIMED, ready)
            self._metrics.maintenance(MaintenanceKind.BURIED, buried)
            if ready or buried:
                self._log.warning("maintenance.reclaimed", ready=ready, buried=buried)
