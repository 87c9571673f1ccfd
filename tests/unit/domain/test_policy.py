import random
from typing import Any

import pytest

from trackdesk_producer.contract.doubt import Past
from trackdesk_producer.contract.record import JobClass
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_worker.domain.claim import ClaimedJob
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind
from trackdesk_worker.domain.policy import (
    Bury,
    Complete,
    Decision,
    Policy,
    Release,
    Retry,
    decide,
    freeze_ms,
)

NOW_MS = 1_800_000_000_000
POLICY = Policy()


def job(**changes: Any) -> ClaimedJob:
    fresh = ClaimedJob("acme/1", "7", 1, 0, "-", Past(), NOW_MS, NOW_MS, JobClass.LIVE, False, 1, NO_TRACE, b"{}")
    return fresh._replace(**changes)


def retryable(**changes: Any) -> Outcome:
    return Outcome(**{"kind": OutcomeKind.RETRYABLE, "reason": Reason.SERVER_ERROR, "row": 12, **changes})


def decided(claimed: ClaimedJob, outcome: Outcome, *, age_ms: int = 0, policy: Policy = POLICY) -> Decision:
    return decide(claimed, outcome, age_ms=age_ms, rng=random.Random(1), policy=policy)


def frozen_ms(outcome: Outcome) -> int:
    return freeze_ms(outcome, now_ms=NOW_MS, rng=random.Random(1), policy=POLICY)


def test_a_delivered_conversion_completes_its_job() -> None:
    assert decided(job(), Outcome(OutcomeKind.DELIVERED, Reason.PAIRED, 1)) == Complete(Reason.PAIRED)


def test_a_rejected_one_is_buried_at_once_and_not_called_exhausted() -> None:
    outcome = Outcome(OutcomeKind.REJECTED, Reason.TYPE_NOT_FOUND, 8)
    assert decided(job(), outcome) == Bury(Reason.TYPE_NOT_FOUND, exhausted=False)


def test_a_retryable_one_comes_back_after_the_backoff() -> None:
    decision = decided(job(attempts=3), retryable())
    assert isinstance(decision, Retry)
    assert 4_000 <= decision.delay_ms <= 8_000
    assert decision.strikes == 1


def test_the_last_attempt_is_followed_by_the_dead_letters_not_by_a_retry() -> None:
    assert isinstance(decided(job(attempts=19), retryable()), Retry)
    assert decided(job(attempts=20), retryable()) == Bury(Reason.SERVER_ERROR, exhausted=True)


def test_a_retry_that_would_fall_past_the_horizon_is_not_planned() -> None:
    horizon_ms = round(POLICY.horizon_s * 1000)
    assert isinstance(decided(job(), retryable(), age_ms=horizon_ms - 2_000), Retry)
    outside = decided(job(), retryable(), age_ms=horizon_ms - 900)
    assert outside == Bury(Reason.SERVER_ERROR, exhausted=True, past_horizon=True)


def test_few_tries_counts_only_attempts_in_a_row_that_end_alike() -> None:
    outcome = retryable(reason=Reason.BAD_ENDPOINT, row=3, tries=3)
    first = decided(job(attempts=5, strikes=2, last_reason="timeout"), outcome)
    second = decided(job(attempts=6, strikes=1, last_reason="bad_endpoint"), outcome)
    third = decided(job(attempts=7, strikes=2, last_reason="bad_endpoint"), outcome)
    assert isinstance(first, Retry)
    assert first.strikes == 1
    assert isinstance(second, Retry)
    assert second.strikes == 2
    assert third == Bury(Reason.BAD_ENDPOINT, exhausted=True)


def test_a_fixed_wait_replaces_the_backoff() -> None:
    outcome = retryable(reason=Reason.SOURCE_NOT_FOUND, row=7, tries=2, wait_s=600.0)
    assert decided(job(attempts=9), outcome) == Retry(600_000, Reason.SOURCE_NOT_FOUND, 1)


@pytest.mark.parametrize(("asked_s", "delay_ms"), [(120.0, 120_000), (1e9, 3_600_000)])
def test_a_retry_after_is_the_least_delay_within_reason(asked_s: float, delay_ms: int) -> None:
    decision = decided(job(), retryable(retry_after_s=asked_s))
    assert isinstance(decision, Retry)
    assert decision.delay_ms == delay_ms


def test_a_short_retry_after_does_not_shorten_the_backoff() -> None:
    decision = decided(job(attempts=10), retryable(retry_after_s=1.0))
    assert isinstance(decision, Retry)
    assert decision.delay_ms >= 512_000


def test_trouble_of_the_tenant_gives_the_attempt_back_even_when_it_was_the_last() -> None:
    outcome = retryable(reason=Reason.RATE_LIMITED, row=10, effect=TenantEffectKind.FREEZE, spends_attempt=False)
    decision = decided(job(attempts=20), outcome)
    assert isinstance(decision, Release)
    assert decision.reason is Reason.RATE_LIMITED


def test_a_refused_job_waits_longer_each_time_and_never_less_than_retry_after() -> None:
    outcome = retryable(reason=Reason.UNAUTHORIZED, row=9, effect=TenantEffectKind.HOLD, spends_attempt=False)
    waits = [decided(job(attempts_total=n), outcome) for n in (1, 2, 3, 9)]
    assert all(isinstance(wait, Release) for wait in waits)
    assert [2_000 <= w.delay_ms <= 4_000 for w in waits[:1] if isinstance(w, Release)] == [True]
    assert [30_000 <= w.delay_ms <= 60_000 for w in waits[3:] if isinstance(w, Release)] == [True]
    asked = decided(job(), retryable(reason=Reason.RATE_LIMITED, spends_attempt=False, retry_after_s=90.0))
    assert isinstance(asked, Release)
    assert asked.delay_ms == 90_000


def test_a_refused_job_is_buried_at_its_horizon() -> None:
    outcome = retryable(reason=Reason.UNAUTHORIZED, row=9, effect=TenantEffectKind.HOLD, spends_attempt=False)
    late = decided(job(), outcome, age_ms=round(POLICY.horizon_s * 1000))
    assert late == Bury(Reason.UNAUTHORIZED, exhausted=True, past_horizon=True)


def test_a_freeze_without_retry_after_lasts_the_default_and_a_little_more() -> None:
    assert 60_000 <= frozen_ms(retryable(reason=Reason.RATE_LIMITED, effect=TenantEffectKind.FREEZE)) <= 75_000


@pytest.mark.parametrize(("asked_s", "expected_ms"), [(0.0, 1_000), (30.0, 30_000), (1e9, 3_600_000)])
def test_a_freeze_honours_retry_after_within_reason(asked_s: float, expected_ms: int) -> None:
    outcome = retryable(reason=Reason.RATE_LIMITED, effect=TenantEffectKind.FREEZE, retry_after_s=asked_s)
    assert frozen_ms(outcome) == expected_ms


@pytest.mark.parametrize("effect", [kind for kind in TenantEffectKind if kind is not TenantEffectKind.FREEZE])
def test_only_a_freeze_has_a_duration(effect: TenantEffectKind) -> None:
    assert frozen_ms(retryable(effect=effect, retry_after_s=30.0)) == 0
