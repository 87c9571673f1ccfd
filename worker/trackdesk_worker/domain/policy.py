"""What happens to a job, and to its tenant, after an outcome. Pure: the store applies the decision.

Guarantees, each checked by a property in tests/property/test_policy_properties.py: a rejected job is never
retried; no retry is planned after the last attempt or past the horizon; a release spends no attempt, and none is
planned past the horizon.
"""

import random
from dataclasses import dataclass
from typing import assert_never

from trackdesk_worker.domain.backoff import backoff_delay_s, clamp_retry_after_s
from trackdesk_worker.domain.claim import ClaimedJob
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of retrying. Keep `horizon_s` below Trackdesk's attribution window; the default is three days."""

    max_attempts: int = 20
    horizon_s: float = 259_200.0
    backoff_base_s: float = 2.0
    backoff_cap_s: float = 3_600.0
    freeze_default_s: float = 60.0
    freeze_max_s: float = 3_600.0
    refused_base_s: float = 4.0
    refused_cap_s: float = 60.0
    """The wait after a refusal that concerns the tenant: from half the base, doubling up to the cap."""
    metered_by_minute: bool = False
    """Trackdesk limits requests per clock minute: a 429 without Retry-After freezes until the minute ends."""


@dataclass(frozen=True, slots=True)
class Complete:
    """The conversion is at Trackdesk."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again in `delay_ms`. `strikes` counts the attempts in a row that ended for this reason."""

    delay_ms: int
    reason: Reason
    strikes: int


@dataclass(frozen=True, slots=True)
class Bury:
    """Move the job to the dead letters. `exhausted`: it was retryable, but its tries, attempts or horizon are spent.

    `past_horizon`: an outage or a hold of its tenant does not keep it either.
    """

    reason: Reason
    exhausted: bool
    past_horizon: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Try again in `delay_ms` without spending an attempt: the cause may be the tenant, not the job."""

    delay_ms: int
    reason: Reason


Decision = Complete | Retry | Bury | Release


def decide(job: ClaimedJob, outcome: Outcome, *, age_ms: int, rng: random.Random, policy: Policy) -> Decision:
    """Return what becomes of `job`, whose attempt ended with `outcome`.

    `age_ms` is the time since the job's retry budget began (at acceptance or the last redrive), by the store's clock.
    """
    match outcome.kind:
        case OutcomeKind.DELIVERED:
            return Complete(outcome.reason)
        case OutcomeKind.REJECTED:
            return Bury(outcome.reason, exhausted=False)
        case OutcomeKind.RETRYABLE:
            if not outcome.spends_attempt:
                return _release_or_bury(job, outcome, age_ms, rng=rng, policy=policy)
            return _retry_or_bury(job, outcome, age_ms, rng=rng, policy=policy)
        case _:
            assert_never(outcome.kind)


def freeze_ms(outcome: Outcome, *, now_ms: int, rng: random.Random, policy: Policy) -> int:
    """Return how long `outcome` freezes its tenant; 0 unless its effect is a freeze.

    A freeze lasts as long as Retry-After says, within limits. Without Retry-After it lasts the default and up to a
    quarter more, or until the current minute of `now_ms` (the store's time) ends. The random part keeps processes
    from resuming at the same moment.
    """
    if outcome.effect is not TenantEffectKind.FREEZE:
        return 0
    if outcome.retry_after_s is not None:
        return _ms(clamp_retry_after_s(outcome.retry_after_s, max_s=policy.freeze_max_s))
    if policy.metered_by_minute:
        return _ms(60.0 - now_ms / 1000 % 60.0 + rng.uniform(1.0, 3.0))
    return _ms(policy.freeze_default_s * rng.uniform(1.0, 1.25))


def _retry_or_bury(
    job: ClaimedJob, outcome: Outcome, age_ms: int, *, rng: random.Random, policy: Policy
) -> Retry | Bury:
    strikes = job.strikes + 1 if job.last_reason == outcome.reason else 1
    out_of_tries = outcome.tries is not None and strikes >= outcome.tries
    delay_ms = _ms(_delay_s(job, outcome, rng=rng, policy=policy))
    past_horizon = age_ms + delay_ms > _ms(policy.horizon_s)
    if out_of_tries or past_horizon or job.attempts >= policy.max_attempts:
        return Bury(outcome.reason, exhausted=True, past_horizon=past_horizon)
    return Retry(delay_ms, outcome.reason, strikes)


def _release_or_bury(
    job: ClaimedJob, outcome: Outcome, age_ms: int, *, rng: random.Random, policy: Policy
) -> Release | Bury:
    delay_s = backoff_delay_s(job.attempts_total, base_s=policy.refused_base_s, cap_s=policy.refused_cap_s, rng=rng)
    if outcome.retry_after_s is not None:
        delay_s = max(delay_s, clamp_retry_after_s(outcome.retry_after_s, max_s=policy.freeze_max_s))
    delay_ms = _ms(delay_s)
    if age_ms + delay_ms > _ms(policy.horizon_s):
        return Bury(outcome.reason, exhausted=True, past_horizon=True)
    return Release(delay_ms, outcome.reason)


def _delay_s(job: ClaimedJob, outcome: Outcome, *, rng: random.Random, policy: Policy) -> float:
    """Return the wait before the next try: the row's own, or the backoff; never less than Retry-After."""
    if outcome.wait_s is not None:
        delay_s = outcome.wait_s
    else:
        delay_s = backoff_delay_s(job.attempts, base_s=policy.backoff_base_s, cap_s=policy.backoff_cap_s, rng=rng)
    if outcome.retry_after_s is not None:
        delay_s = max(delay_s, clamp_retry_after_s(outcome.retry_after_s, max_s=policy.freeze_max_s))
    return delay_s


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
