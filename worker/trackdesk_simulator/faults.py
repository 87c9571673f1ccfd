"""Which fault, if any, strikes a request. Chance is an argument, so a seed repeats a run."""

import random
from enum import StrEnum

from trackdesk_simulator.config import Faults


class Fault(StrEnum):
    """What goes wrong on the way, beside the business answer."""

    COMMIT_THEN_DROP = "commit_then_drop"
    COMMIT_THEN_LATE = "commit_then_late"
    DROP_BEFORE_COMMIT = "drop_before_commit"
    SLOW_BODY = "slow_body"
    ERROR = "error"
    HTML_200 = "html_200"
    EMPTY_CID = "empty_cid"
    HANG = "hang"


class FaultDice:
    """Draws one tenant's faults from its own generator, so that tenants do not disturb each other's runs."""

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self._rng = rng
        self._burst_left = 0
        self.load(faults)

    def load(self, faults: Faults) -> None:
        """Use these shares from now on; the generator goes on where it was."""
        shares = (
            (Fault.COMMIT_THEN_DROP, faults.commit_then_drop),
            (Fault.COMMIT_THEN_LATE, faults.commit_then_late),
            (Fault.DROP_BEFORE_COMMIT, faults.drop_before_commit),
            (Fault.SLOW_BODY, faults.slow_body),
            (Fault.ERROR, faults.error_rate),
            (Fault.HTML_200, faults.html_200),
            (Fault.EMPTY_CID, faults.empty_cid),
            (Fault.HANG, faults.hang),
        )
        self._faults = faults
        self._thresholds: list[tuple[float, Fault]] = []
        total = 0.0
        for fault, share in shares:
            if share > 0:
                total += share
                self._thresholds.append((total, fault))
        if faults.error_rate == 0:
            self._burst_left = 0

    def draw(self) -> Fault | None:
        """Return the fault that strikes the next request, or None."""
        if not self._thresholds:
            return None
        if self._burst_left > 0:
            self._burst_left -= 1
            return Fault.ERROR
        roll = self._rng.random()
        for threshold, fault in self._thresholds:
            if roll < threshold:
                if fault is Fault.ERROR:
                    self._burst_left = self._faults.error_burst - 1
                return fault
        return None

    def error_status(self) -> int:
        """Return the HTTP status of an error fault."""
        return self._rng.choice(self._faults.error_statuses)
