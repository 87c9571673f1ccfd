"""Jobs whose records a newer release wrote wait aside; those that this release can read come back."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import BATCH, Duty, DutyContext, Turn
from trackdesk_worker.telemetry.labels import DutyName


class Unpark(Duty):
    """Puts jobs back into the index that their record names."""

    name: ClassVar = DutyName.UNPARK

    def __init__(self, context: DutyContext) -> None:
        super().__init__(context)
        self._aside = 0

    def run_once(self, turn: Turn) -> None:
        """Put back what can be read."""

        def step() -> int:
            taken = self._store.run(self._store.jobs.unpark(BATCH))
            if taken.aside != self._aside:
                self._aside = taken.aside
                # These jobs are safe as they are: a newer release wrote their records, and only it may go on.
                self._log.warning("maintenance.newer_records", jobs=taken.aside)
            return taken.back

        turn.drain(step)
