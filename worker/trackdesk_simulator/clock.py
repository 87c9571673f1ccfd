"""Time as an argument: the simulator reads the hour from a clock that a test may replace."""

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is, in seconds since the Unix epoch."""

    def now(self) -> float:
        """Return the present moment in seconds since the Unix epoch."""
        ...  # pragma: no cover


class SystemClock:
    """The machine's own wall clock."""

    def now(self) -> float:
        """Return `time.time()`."""
        return time.time()


class ManualClock:
    """A clock that moves only when set; tests live through hours with it.

    It rules the rate limiter, the lockouts, expiry and the ledger's times. Waits that a client can feel
    (latency, slow bodies, hangs) stay in real seconds.
    """

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self._now = now

    def now(self) -> float:
        """Return the moment it was last set to."""
        return self._now

    def set(self, now: float) -> None:
        """Jump to this moment, in seconds since the Unix epoch."""
        self._now = now

    def advance(self, seconds: float) -> None:
        """Move forward by this many seconds."""
        self._now += seconds
