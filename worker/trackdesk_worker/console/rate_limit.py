"""How often somebody may do something: an allowance that refills, per visitor, in bounded memory."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable


class Allowance:
    """So many at once, refilled at a rate. Not thread-safe: the event loop owns it."""

    def __init__(self, at_once: int, per_s: float, *, clock: Callable[[], float], remembered: int = 4096) -> None:
        self._at_once = at_once
        self._per_s = per_s
        self._clock = clock
        self._remembered = remembered
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Who → what was left, and when. Whoever is forgotten has the full allowance again."""

    def wait_s(self, who: Hashable) -> int:
        """Return how long to wait for the next one: 0 if it may be now."""
        short = 1 - self._now_left(who)
        return 0 if short <= 0 else math.ceil(short / self._per_s)

    def take(self, who: Hashable) -> None:
        """Count one."""
        self._left[who] = (max(0.0, self._now_left(who) - 1), self._clock())
        self._left.move_to_end(who)
        while len(self._left) > self._remembered:
            self._left.popitem(last=False)

    def _now_left(self, who: Hashable) -> float:
        left, at = self._left.get(who, (float(self._at_once), self._clock()))
        return min(float(self._at_once), left + (self._clock() - at) * self._per_s)
