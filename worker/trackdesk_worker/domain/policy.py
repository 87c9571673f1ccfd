"""What happens to a job, and to its tenant, after an outcome. Pure: the store carries the decision out.

Guarantees, each held by a property in tests/property/test_policy_properties.py: a rejected job is never
retried; no retry is planned once the attempts are spent or past the horizon; releases spend nothing, but none
goes past the horizon; an attempt that may have landed marks the job ambiguous, and nothing here takes that mark away.
"""

import random
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from trackdesk_worker.domain.backoff import backoff_delay_s, clamp_retry_after_s
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of retrying. `horizon_s` belongs below Trackdesk's attribution window; the default is three
    days.
    """

    max_attempts: int = 20
    horizon_s: float = 259_200.0
    backoff_base_s: float = 2.0
    backoff_cap_s: float = 3_600.0
    freeze_default_s: float = 60.0
    freeze_max_s: float = 3_600.0
    refused_base_s: float = 4.0
    refused_cap_s: float = 60.0
    """Waits of a job whose refusal speaks of its tenant: from half the base, doubling, to the cap."""
    metered_by_minute: bool = False
    """Trackdesk counts by the minute and blocks until it ends: a 429 without Retry-After freezes as long."""


class JobView(NamedTuple):
    """What the policy needs to know of a job, as it was claimed for the attempt that just ended.

    `attempts` counts this budget's attempts from 1, the one that just ended included. `strikes` and
    `last_reason` are those of the attempt before it. `age_ms` is how long ago this budget began (acceptance, or the
    last redrive), by the store's clock. `ambiguous` says that an earlier attempt may have landed. `requests` counts
    all of its attempts, those given back included.
    """

    attempts: int
    strikes: int
    last_reason: str
    age_ms: int
    ambiguous: bool
    requests: int = 1


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
    ambiguous: bool


@dataclass(frozen=True, slots=True)
class Bury:
    """To the dead letters. `exhausted`: it was still retryable, but tries, attempts or horizon are spent.

    `past_horizon`: not even an outage or a hold of its tenant keeps it any longer. `ambiguous`: some attempt may have
    landed, so the conversion may be at Trackdesk all the same.
    """

    reason: Reason
    exhausted: bool
    ambiguous: bool
    past_horizon: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Wait for `delay_ms` with the attempt given back: it may be the tenant's trouble, not the job's."""

    delay_ms: int
    reason: Reason
    ambiguous: bool


Decision = Complete | Retry | Bury | Release


@dataclass(frozen=True, slots=True)
class TenantEffect:
    """What the answer may mean for the tenant. `for_ms` is how long a freeze lasts; else it is 0."""

    kind: TenantEffectKind
    for_ms: int


def decide(job: JobView, outcome: Outcome, *, rng: random.Random, policy: Policy) -> Decision:
    """Return what becomes of `job` after `outcome`."""
    ambiguous = job.ambiguous or outcome.may_have_landed
    match outcome.kind:
        case OutcomeKind.DELIVERED:
            return Complete(outcome.reason)
        case OutcomeKind.REJECTED:
            return Bury(outcome.reason, exhausted=False, ambiguous=ambiguous)
        case OutcomeKind.RETRYABLE:
            if not outcome.spends_attempt:
                return _release_or_bury(job, outcome, ambiguous, rng=rng, policy=policy)
            return _retry_or_bury(job, outcome, ambiguous, rng=rng, policy=policy)
        case _:
            assert_never(outcome.kind)


def tenant_effect(outcome: Outcome, *, now_ms: int, rng: random.Random, policy: Policy) -> TenantEffect:
    """Return what `outcome` means for the other jobs of its tenant.

    A freeze lasts what Retry-After asks for (clamped), else the default and up to a quarter more, or until the
    minute of `now_ms`, the store's time, has ended: several processes must not come back at once.
    """
    match outcome.effect:
        case TenantEffectKind.FREEZE:
            if outcome.retry_after_s is None and policy.metered_by_minute:
                freeze_s = 60.0 - now_ms / 1000 % 60.0 + rng.uniform(1.0, 3.0)
            elif outcome.retry_after_s is None:
                freeze_s = policy.freeze_default_s * rng.uniform(1.0, 1.25)
            else:
                freeze_s = clamp_retry_after_s(outcome.retry_after_s, max_s=policy.freeze_max_s)
            return TenantEffect(TenantEffectKind.FREEZE, _ms(freeze_s))
        case TenantEffectKind.HOLD:
            return TenantEffect(TenantEffectKind.HOLD, 0)
        case TenantEffectKind.CLEAR | TenantEffectKind.NONE:
            return TenantEffect(outcome.effect, 0)
        case _:
            assert_never(outcome.effect)


def _retry_or_bury(
    job: JobView, outcome: Outcome, ambiguous: bool, *, rng: random.Random, policy: Policy
) -> Retry | Bury:
    strikes = job.strikes + 1 if job.last_reason == outcome.reason else 1
    out_of_tries = outcome.tries is not None and strikes >= outcome.tries
    delay_ms = _ms(_delay_s(job, outcome, rng=rng, policy=policy))
    past_horizon = job.age_ms + delay_ms > _ms(policy.horizon_s)
    if out_of_tries or past_horizon or job.attempts >= policy.max_attempts:
        return Bury(outcome.reason, exhausted=True, ambiguous=ambiguous, past_horizon=past_horizon)
    return Retry(delay_ms, outcome.reason, strikes, ambiguous)


def _release_or_bury(
    job: JobView, outcome: Outcome, ambiguous: bool, *, rng: random.Random, policy: Policy
) -> Release | Bury:
    delay_s = backoff_delay_s(job.requests, base_s=policy.refused_base_s, cap_s=policy.refused_cap_s, rng=rng)
    if outcome.retry_after_s is not None:
        delay_s = max(delay_s, clamp_retry_after_s(outcome.retry_after_s, max_s=policy.freeze_max_s))
    delay_ms = _ms(delay_s)
    if job.age_ms + delay_ms > _ms(policy.horizon_s):
        return Bury(outcome.reason, exhausted=True, ambiguous=ambiguous, past_horizon=True)
    return Release(delay_ms, outcome.reason, ambiguous)


def _delay_s(job: JobView, outcome: Outcome, *, rng: random.Random, policy: Policy) -> float:
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
