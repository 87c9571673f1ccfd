"""The rate limiter on a clock of its own."""

import pytest

from trackdesk_simulator.config import LimitKind, RateLimit
from trackdesk_simulator.limiter import Limiter

MINUTE = 1_767_225_600.0  # a whole minute


def admitted(limiter: Limiter, *, now: float, tries: int = 1_000) -> int:
    return sum(limiter.take(now=now) is None for _ in range(tries))


def test_a_full_bucket_admits_its_burst_and_then_the_rate() -> None:
    limiter = Limiter(RateLimit(per_s=5, burst=7), now=MINUTE)
    assert admitted(limiter, now=MINUTE) == 7
    assert admitted(limiter, now=MINUTE + 1) == 5
    assert limiter.lockouts == 0


def test_the_burst_is_one_second_of_the_rate_unless_it_is_set() -> None:
    assert admitted(Limiter(RateLimit(per_s=20), now=MINUTE), now=MINUTE) == 20
    assert admitted(Limiter(RateLimit(per_s=0.5), now=MINUTE), now=MINUTE) == 1


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    limiter = Limiter(RateLimit(per_s=5), now=MINUTE)
    assert admitted(limiter, now=MINUTE + 3_600) == 5


def test_the_exact_pace_is_never_refused_for_hours() -> None:
    limiter = Limiter(RateLimit(per_s=5, burst=1), now=MINUTE)
    assert all(limiter.take(now=MINUTE + i / 5) is None for i in range(5 * 3_600 * 2))


def test_a_pace_of_two_percent_above_the_rate_is_refused() -> None:
    limiter = Limiter(RateLimit(per_s=5, burst=1), now=MINUTE)
    assert any(limiter.take(now=MINUTE + i / 5.1) is not None for i in range(200))


def test_a_refusal_says_when_the_next_token_comes() -> None:
    limiter = Limiter(RateLimit(per_s=5, burst=1), now=MINUTE)
    assert limiter.take(now=MINUTE) is None
    assert limiter.take(now=MINUTE) == pytest.approx(0.2, abs=1e-6)
    assert limiter.take(now=MINUTE + 0.1) == pytest.approx(0.1, abs=1e-6)


def test_a_lockout_refuses_everything_for_its_seconds_and_is_not_prolonged() -> None:
    limiter = Limiter(RateLimit(per_s=5, lockout_s=60), now=MINUTE)
    assert admitted(limiter, now=MINUTE) == 5
    assert limiter.take(now=MINUTE + 30) == pytest.approx(30)
    assert admitted(limiter, now=MINUTE + 59.9) == 0
    assert limiter.lockouts == 1
    assert admitted(limiter, now=MINUTE + 60, tries=5) == 5


def test_a_bucket_may_block_until_the_minute_ends() -> None:
    limiter = Limiter(RateLimit(per_s=5, until_minute_ends=True), now=MINUTE + 20)
    assert admitted(limiter, now=MINUTE + 20, tries=5) == 5
    assert limiter.take(now=MINUTE + 20) == pytest.approx(40)
    assert admitted(limiter, now=MINUTE + 59.9) == 0
    assert admitted(limiter, now=MINUTE + 60, tries=5) == 5
    assert limiter.lockouts == 1


def test_the_minute_kind_admits_a_minutes_worth_and_blocks_until_the_minute_ends() -> None:
    limiter = Limiter(RateLimit(kind=LimitKind.MINUTE, per_s=5), now=MINUTE)
    assert admitted(limiter, now=MINUTE + 10, tries=301) == 300
    assert limiter.take(now=MINUTE + 10) == pytest.approx(50)
    assert limiter.lockouts == 1
    assert admitted(limiter, now=MINUTE + 60, tries=400) == 300


def test_a_clock_set_back_neither_fills_nor_drains_the_bucket() -> None:
    limiter = Limiter(RateLimit(per_s=5), now=MINUTE)
    assert admitted(limiter, now=MINUTE, tries=4) == 4
    assert admitted(limiter, now=MINUTE - 100) == 1
