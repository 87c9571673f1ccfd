"""A tenant's request limit: a token bucket or a count per minute, with lockouts. Time is an argument."""

import math
from typing import assert_never

from trackdesk_simulator.config import LimitKind, RateLimit

MINUTE_S = 60.0
ROUNDING_S = 1e-6


class Limiter:
    """Meters one tenant's requests. `lockouts` counts how often it closed for a while."""

    def __init__(self, rule: RateLimit, *, now: float) -> None:
        self._rule = rule
        self._interval_s = 1.0 / rule.per_s
        self._empty_lead_s = (rule.capacity - 1) * self._interval_s
        self._origin = now
        self._full_s = 0.0
        self._seen_s = 0.0
        self._minute = math.floor(now / MINUTE_S)
        self._used = 0
        self._locked_until = -math.inf
        self.lockouts = 0

    def take(self, *, now: float) -> float | None:
        """Admit a request (None), or return the seconds until the next one can be admitted.

        Refused requests cost nothing and do not prolong a lockout.
        """
        if now < self._locked_until:
            return self._locked_until - now
        match self._rule.kind:
            case LimitKind.BUCKET:
                return self._take_token(now)
            case LimitKind.MINUTE:
                return self._count_in_minute(now)
            case _:
                assert_never(self._rule.kind)

    def _take_token(self, now: float) -> float | None:
        rule = self._rule
        # The bucket is kept as the moment at which it will be full, counted from the limiter's start. Unlike a
        # count of tokens or an epoch time, that gathers no rounding errors in hours of requests at the exact
        # pace (test_the_exact_pace_is_never_refused_for_hours).
        elapsed_s = now - self._origin
        if elapsed_s < self._seen_s:  # a clock set back neither fills nor drains the bucket
            self._full_s -= self._seen_s - elapsed_s
        self._seen_s = elapsed_s
        full_s = max(elapsed_s, self._full_s)
        wait_s = full_s - elapsed_s - self._empty_lead_s
        if wait_s <= ROUNDING_S:
            self._full_s = full_s + self._interval_s
            return None
        if rule.lockout_s > 0:
            wait_s = self._lock(now, now + rule.lockout_s)
        elif rule.until_minute_ends:
            wait_s = self._lock(now, _minute_end(now))
        return wait_s

    def _count_in_minute(self, now: float) -> float | None:
        minute = math.floor(now / MINUTE_S)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if self._used < math.floor(self._rule.per_s * MINUTE_S + 1e-9):
            self._used += 1
            return None
        return self._lock(now, _minute_end(now))

    def _lock(self, now: float, until: float) -> float:
        self.lockouts += 1
        self._locked_until = until
        return until - now


def _minute_end(now: float) -> float:
    return (math.floor(now / MINUTE_S) + 1) * MINUTE_S
