"""The list of workers: this one is alive, those silent for a day are forgotten."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import Duty, DutyContext, Turn
from trackdesk_worker.telemetry.labels import DutyName

FORGOTTEN_MS = 86_400_000


class Heartbeat(Duty):
    """Notes that this process is alive, by the store's clock."""

    name: ClassVar = DutyName.HEARTBEAT

    def __init__(self, context: DutyContext, worker_id: str) -> None:
        super().__init__(context)
        self._worker_id = worker_id

    def run_once(self, turn: Turn) -> None:
        """Note it."""
        self._store.run(self._store.jobs.alive(self._worker_id, forget_after_ms=FORGOTTEN_MS))

    def sign_off(self) -> None:
        """Leave the list of workers."""
        self._store.client.zrem(self._store.keys.workers, self._worker_id)
