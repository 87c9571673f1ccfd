import random

import pytest

from trackdesk_worker.domain.backoff import backoff_delay_s, clamp_retry_after_s


@pytest.mark.parametrize(
    ("attempt", "full_s"), [(1, 2.0), (2, 4.0), (3, 8.0), (10, 1024.0), (11, 2048.0), (12, 3600.0)]
)
def test_the_delay_doubles_up_to_the_cap_and_is_jittered_downwards(attempt: int, full_s: float) -> None:
    rng = random.Random(1)
    delays = [backoff_delay_s(attempt, base_s=2.0, cap_s=3600.0, rng=rng) for _ in range(200)]
    assert min(delays) >= full_s / 2
    assert max(delays) <= full_s
    assert max(delays) - min(delays) > full_s / 4


def test_an_absurd_attempt_number_still_gives_the_cap() -> None:
    assert backoff_delay_s(10_000, base_s=2.0, cap_s=3600.0, rng=random.Random(1)) <= 3600.0


@pytest.mark.parametrize(("asked_s", "granted_s"), [(0.0, 1.0), (0.5, 1.0), (7.0, 7.0), (1e9, 3600.0)])
def test_a_retry_after_is_brought_into_a_sane_range(asked_s: float, granted_s: float) -> None:
    assert clamp_retry_after_s(asked_s, max_s=3600.0) == granted_s
