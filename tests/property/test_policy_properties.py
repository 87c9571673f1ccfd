import random
from typing import assert_never

from hypothesis import given
from hypothesis import strategies as st

from trackdesk_producer.contract.doubt import Doubt, Past
from trackdesk_producer.contract.record import JobClass
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_worker.domain.backoff import backoff_delay_s
from trackdesk_worker.domain.claim import ClaimedJob
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind
from trackdesk_worker.domain.policy import (
    Bury,
    Complete,
    Policy,
    Release,
    Retry,
    decide,
    freeze_ms,
)

NOW_MS = 1_800_000_000_000

seconds = st.floats(min_value=0.0, max_value=1e12)
outcomes = st.builds(
    Outcome,
    kind=st.sampled_from(OutcomeKind),
    reason=st.sampled_from(Reason),
    row=st.integers(1, 13),
    may_have_landed=st.booleans(),
    tries=st.none() | st.integers(1, 5),
    wait_s=st.none() | seconds,
    retry_after_s=st.none() | seconds,
    effect=st.sampled_from(TenantEffectKind),
    spends_attempt=st.booleans(),
)
policies = st.builds(
    Policy,
    max_attempts=st.integers(1, 50),
    horizon_s=st.floats(0.0, 1e7),
    backoff_base_s=st.floats(0.001, 100.0),
    backoff_cap_s=st.floats(0.001, 1e5),
)
jobs = st.builds(
    ClaimedJob,
    id=st.just("acme/1"),
    token=st.just("7"),
    attempts=st.integers(1, 60),
    strikes=st.integers(0, 10),
    last_reason=st.sampled_from(["-", *Reason]),
    past=st.builds(Past, st.sampled_from(Doubt)),
    epoch_ms=st.just(NOW_MS),
    accepted_ms=st.just(NOW_MS),
    job_class=st.sampled_from(JobClass),
    probe=st.booleans(),
    attempts_total=st.integers(1, 10_000),
    trace=st.just(NO_TRACE),
    body=st.just(b"{}"),
)


@given(jobs, outcomes, st.integers(0, 10**10), policies, st.randoms(use_true_random=False))
def test_no_decision_breaks_the_limits(
    job: ClaimedJob, outcome: Outcome, age_ms: int, policy: Policy, rng: random.Random
) -> None:
    decision = decide(job, outcome, age_ms=age_ms, rng=rng, policy=policy)
    match decision:
        case Complete():
            assert outcome.kind is OutcomeKind.DELIVERED
        case Retry():
            assert outcome.kind is OutcomeKind.RETRYABLE
            assert job.attempts < policy.max_attempts
            assert 0 <= decision.delay_ms <= round(policy.horizon_s * 1000) - age_ms
            assert outcome.tries is None or decision.strikes < outcome.tries
        case Bury():
            assert decision.exhausted == (outcome.kind is OutcomeKind.RETRYABLE)
        case Release():
            assert outcome.kind is OutcomeKind.RETRYABLE
            assert 0 < decision.delay_ms <= round(policy.horizon_s * 1000) - age_ms
            assert not outcome.spends_attempt
        case _:
            assert_never(decision)
    assert decision.reason == outcome.reason


@given(outcomes, policies, st.randoms(use_true_random=False))
def test_a_freeze_always_ends_and_nothing_else_lasts(outcome: Outcome, policy: Policy, rng: random.Random) -> None:
    frozen_ms = freeze_ms(outcome, now_ms=NOW_MS, rng=rng, policy=policy)
    if outcome.effect is TenantEffectKind.FREEZE:
        assert 0 < frozen_ms <= round(policy.freeze_max_s * 1000)
    else:
        assert frozen_ms == 0


@given(st.integers(1, 10_000), st.floats(0.001, 100.0), st.floats(0.001, 1e5), st.randoms(use_true_random=False))
def test_the_bounds_of_the_backoff_never_shrink_and_never_pass_the_cap(
    attempt: int, base_s: float, cap_s: float, rng: random.Random
) -> None:
    delay_s = backoff_delay_s(attempt, base_s=base_s, cap_s=cap_s, rng=rng)
    upper_s = min(cap_s, base_s * 2 ** min(attempt - 1, 62))
    assert upper_s / 2 <= delay_s <= upper_s
    later_s = backoff_delay_s(attempt + 2, base_s=base_s, cap_s=cap_s, rng=rng)
    assert later_s >= delay_s or upper_s * 4 > cap_s
