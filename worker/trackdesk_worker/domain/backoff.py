"""How long to wait before the next try. Seconds in, seconds out; chance is an argument."""

import random

RETRY_AFTER_MIN_S = 1.0

_MAX_DOUBLINGS = 62
"""Beyond this every sensible cap is reached; it keeps `2**n` inside a float for any attempt number."""


def backoff_delay_s(attempt: int, *, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Return the delay after the `attempt`-th try (from 1): `min(cap, base * 2**(attempt-1))`, jittered.

    The jitter takes between half and the whole of it, so that jobs which failed together do not return
    together.
    """
    doublings = min(max(attempt, 1) - 1, _MAX_DOUBLINGS)
    full_s: float = min(cap_s, base_s * 2**doublings)
    return full_s * rng.uniform(0.5, 1.0)


def clamp_retry_after_s(retry_after_s: float, *, max_s: float) -> float:
    """Bring a server's Retry-After into a sane range: at least a second, at most `max_s`."""
    return min(max(retry_after_s, RETRY_AFTER_MIN_S), max_s)
