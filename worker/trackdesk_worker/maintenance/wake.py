"""Wake-ups may get lost, so every worker looks now and then whether work waits."""

from collections.abc import Callable
from typing import ClassVar

from trackdesk_worker.maintenance.duty import Duty, DutyContext, Turn
from trackdesk_worker.telemetry.labels import DutyName


class Wake(Duty):
    """Wakes a worker, and this one's own loop, if a tenant's turn has come."""

    name: ClassVar = DutyName.WAKE

    def __init__(self, context: DutyContext, wake: Callable[[], None]) -> None:
        super().__init__(context)
        self._wake = wake

    def run_once(self, turn: Turn) -> None:
        """Wake where work waits."""
        if self._store.run(self._store.jobs.wake()):
            # Besides the wake-up in Celery's queue, straight to our own loop: after an outage of Redis, Celery
            # may take many seconds to listen again.
            self._wake()
