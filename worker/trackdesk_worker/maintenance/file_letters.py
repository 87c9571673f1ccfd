"""Dead letters that a version before the causes buried are filed under their cause: also during an upgrade."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import Duty, Turn
from trackdesk_worker.store.dead_letters.causes import adopt
from trackdesk_worker.telemetry.labels import DutyName


class FileLetters(Duty):
    """Files old dead letters under their cause."""

    name: ClassVar = DutyName.FILE_LETTERS
    every_s: ClassVar = 2.0
    share_s: ClassVar = 0.5

    def run_once(self, turn: Turn) -> None:
        """File them."""
        turn.drain(lambda: adopt(self._context.client, self._context.keys), full=1)
