"""When what waits will have been sent, and what will then be too late. Pure arithmetic.

Held to what then happens, within 15 %, by tests/integration/test_forecast.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from trackdesk_producer.contract.constants import CLIMB_MS

CLIMB_S = CLIMB_MS / 1000
"""After a 429 the pace climbs from nothing to its full rate in this time."""


class PaceBasis(StrEnum):
    """What a forecast takes for the pace."""

    BUDGET = "budget"
    """Jobs will leave as fast as the budget allows."""
    OBSERVED = "observed"
    """They leave more slowly than that, and the forecast takes what it saw."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a tenant's requests may leave from now on."""

    rate_per_s: float | None
    """Full rate; None is no limit."""
    starts_in_s: float = 0.0
    """Until a freeze ends, or the next probe of a held tenant."""
    factor: float = 1.0
    """Share of the full rate at the start; it climbs back after a 429."""
    paused: bool = False
    used: float = 1.0
    """Part of the budget that was used lately while jobs waited; 1 where the forecast counts on all of it."""

    @property
    def basis(self) -> PaceBasis:
        """What the forecast takes for the pace."""
        return PaceBasis.BUDGET if self.used == 1 else PaceBasis.OBSERVED

    @property
    def sent_per_s(self) -> float | None:
        """Requests per second at full pace as the forecast reckons; None is no limit."""
        return None if self.rate_per_s is None else self.rate_per_s * self.used


@dataclass(frozen=True, slots=True)
class Line:
    """The ready jobs of one class, and some of them: place in the line, start of the horizon (ms)."""

    size: int
    share: int
    """Guaranteed part of the budget, against the other classes'."""
    sample: Sequence[tuple[int, int]]


def seconds_to_send(jobs: float, pace: Pace) -> float | None:
    """Return when `jobs` requests will have left; None while paused or without a limit to reckon with."""
    if pace.paused or pace.sent_per_s is None:
        return None
    rate_per_s = pace.sent_per_s
    if jobs <= 0:
        return 0.0
    # While it climbs, the rate is a rising line, and the jobs sent are the area below it.
    climb_s = (1 - pace.factor) * CLIMB_S
    during_climb = rate_per_s * climb_s * (1 + pace.factor) / 2
    if jobs >= during_climb:
        return pace.starts_in_s + climb_s + (jobs - during_climb) / rate_per_s
    slope, start = rate_per_s / CLIMB_S, rate_per_s * pace.factor
    return pace.starts_in_s + (math.sqrt(start * start + 2 * slope * jobs) - start) / slope


def late_jobs(lines: Sequence[Line], pace: Pace, *, horizon_s: float, now_ms: int) -> int:
    """Estimate how many jobs will pass their horizon before they can be sent.

    Without a limit, or in a pause of unknown length, only those that have passed it already.
    """
    total = sum(line.size for line in lines)
    shares = sum(line.share for line in lines)
    late = 0.0
    for line in lines:
        passed = 0
        for place, epoch_ms in line.sample:
            # While this line moves on, the others get their shares, as long as they have jobs.
            others: float = total - line.size
            if line.share:
                others = min(others, place * (shares - line.share) / line.share)
            sent_in_s = seconds_to_send(place + 1 + others, pace) or 0.0
            passed += now_ms + sent_in_s * 1000 > epoch_ms + horizon_s * 1000
        if line.sample:
            late += line.size * passed / len(line.sample)
    return round(late)
