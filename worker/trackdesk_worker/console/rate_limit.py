"""Token buckets per client, in bounded memory."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Allowance:
    """One token bucket per client. Not thread-safe: the event loop owns it."""

    def __init__(self, at_once: int, per_s: float, *, clock: Callable[[], float], remembered: int = 4096) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._clock = clock
        self._remembered = remembered
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Client → tokens left, and when. An evicted client starts with a full bucket."""

    def wait_s(self, who: Hashable) -> int:
        """Return seconds until the next token; 0 if there is one."""
        short = 1 - self._now_left(who)
        return 0 if short <= 0 else math.ceil(short / self._per_s)

    def take(self, who: Hashable) -> None:
        """Take one token."""
        self._left[who] = (max(0.0, self._now_left(who) - 1), self._clock())
        self._left.move_to_end(who)
        while len(self._left) > self._remembered:
            self._left.popitem(last=False)

    def _now_left(self, who: Hashable) -> float:
        left, at = self._left.get(who, (float(self._at_once), self._clock()))
        return min(float(self._at_once), left + (self._clock() - at) * self._per_s)
