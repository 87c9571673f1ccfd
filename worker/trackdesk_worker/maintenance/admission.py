"""A store that is nearly full takes no new sales: the rest of its memory is for finishing what was accepted."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import Duty, Turn
from trackdesk_worker.telemetry.labels import DutyName

FULL_SHARE = 0.9
"""Share of maxmemory above which enqueue is closed."""
CLOSED_FOR_S = 30
"""If all workers die while it is closed, enqueue opens again and Redis' own limit decides."""


class Admission(Duty):
    """Closes the store to new sales, or opens it."""

    name: ClassVar = DutyName.ADMISSION
    every_s: ClassVar = 2.0

    def run_once(self, turn: Turn) -> None:
        """Compare the store's memory with its limit."""
        memory = self._store.client.info("memory")
        most = int(memory.get("maxmemory", 0))
        full = most and int(memory["used_memory"]) > most * FULL_SHARE
        self._store.run(self._store.jobs.admission(closed_for_s=CLOSED_FOR_S if full else 0))
