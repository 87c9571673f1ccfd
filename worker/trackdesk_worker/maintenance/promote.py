"""Scheduled jobs whose time has come become ready."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import BATCH, Duty, Turn
from trackdesk_worker.telemetry.labels import DutyName, MaintenanceKind


class Promote(Duty):
    """Moves due jobs from scheduled to ready."""

    name: ClassVar = DutyName.PROMOTE
    share_s: ClassVar = 0.5

    def run_once(self, turn: Turn) -> None:
        """Move what is due."""
        moved = turn.drain(lambda: self._store.run(self._store.jobs.promote(BATCH)))
        self._metrics.maintenance(MaintenanceKind.PROMOTED, moved)
