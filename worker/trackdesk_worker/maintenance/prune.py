"""Tombstones leave when their dedupe window is over."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import BATCH, Duty, Turn
from trackdesk_worker.telemetry.labels import DutyName, MaintenanceKind


class Prune(Duty):
    """Removes tombstones faster than a worker can make new ones."""

    name: ClassVar = DutyName.PRUNE
    share_s: ClassVar = 0.25  # a third of a round: above 2,000 a second even where ten processes share two cores

    def run_once(self, turn: Turn) -> None:
        """Remove what is over."""
        pruned = turn.drain(lambda: self._store.run(self._store.jobs.prune(BATCH)))
        self._metrics.maintenance(MaintenanceKind.PRUNED, pruned)
