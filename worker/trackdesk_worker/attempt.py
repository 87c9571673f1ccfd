"""One attempt: send a claimed job, read the answer, decide; the result is what the store has to settle."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

import structlog

from trackdesk_producer.contract.job import external_id_of
from trackdesk_worker.domain.outcome import Effect as OutcomeEffect
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind
from trackdesk_worker.domain.policy import (
    Bury,
    Complete,
    Decision,
    JobView,
    Policy,
    Release,
    RetryAt,
    decide,
    tenant_effect,
)
from trackdesk_worker.store.jobs import ClaimedJob, Effect, EffectKind, Settlement, Verb
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.trackdesk.answers import Context, read_answer
from trackdesk_worker.trackdesk.created_at import dated
from trackdesk_worker.trackdesk.exchange import Answer, Failure

_EXTERNAL_CLICK = (b'"externalCid":', b'"externalClientId":')
"""As keys of a JSON object; inside a value the quotes would be escaped."""


class Sender(Protocol):
    """What delivers one body; `TrackdeskClient` does."""

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        """Return what came back and the seconds it took; never raise for the network's trouble."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that ended, ready to be settled."""

    job: ClaimedJob
    settlement: Settlement
    effect: Effect | None


class Attempts:
    """Makes attempts; holds what they all share."""

    def __init__(
        self,
        *,
        sender: Sender,
        policy: Policy,
        metrics: WorkerMetrics,
        log: structlog.typing.FilteringBoundLogger,
        rng: random.Random,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._sender = sender
        self._policy = policy
        self._metrics = metrics
        self._log = log
        self._rng = rng
        self._now_ms = now_ms

    async def make(self, job: ClaimedJob) -> Finished:
        """Send the job once and decide what becomes of it.

        The wide log event and the metrics of the attempt are written here, once; neither holds the body.
        """
        body = dated(job.body, accepted_ms=job.accepted_ms, now_ms=self._now_ms())
        answer, duration_s = await self._sender.send(job.tenant, body)
        now_ms = self._now_ms()
        by_external_cid = any(name in job.body for name in _EXTERNAL_CLICK)
        outcome = read_answer(answer, Context(job.ambiguous, by_external_cid, now_ms))
        view = JobView(job.attempts, job.strikes, job.last_reason, job.epoch_ms, job.ambiguous)
        decision = decide(view, outcome, now_ms=now_ms, rng=self._rng, policy=self._policy)
        effect = self._tenant_effect(job, outcome, now_ms)
        settlement = _settlement(job, outcome, decision, duration_s, now_ms)
        self._tell(job, outcome, settlement, duration_s)
        return Finished(job, settlement, effect)

    def _tenant_effect(self, job: ClaimedJob, outcome: Outcome, now_ms: int) -> Effect | None:
        effect = tenant_effect(outcome, now_ms=now_ms, rng=self._rng, policy=self._policy)
        match effect.kind:
            case OutcomeEffect.NONE:
                return None
            case OutcomeEffect.CLEAR:
                # Almost every answer clears; only a probe's does so of a hold that stands.
                return Effect(job.tenant, EffectKind.CLEAR) if job.probe else None
            case OutcomeEffect.FREEZE:
                return Effect(job.tenant, EffectKind.FREEZE, effect.until_ms or 0, effect.reason.value)
            case OutcomeEffect.HOLD:
                return Effect(job.tenant, EffectKind.HOLD, effect.until_ms or 0, effect.reason.value)
            case _:
                assert_never(effect.kind)

    def _tell(self, job: ClaimedJob, outcome: Outcome, settlement: Settlement, duration_s: float) -> None:
        name = _outcome_name(outcome)
        self._metrics.attempt(outcome=name, status=outcome.status, reason=outcome.reason.value, duration_s=duration_s)
        self._log.info(
            "delivery.attempt",
            tenant=job.tenant,
            external_id=external_id_of(job.id),
            job_class=job.job_class.value,
            attempt=job.attempts_total,
            outcome=name,
            reason=outcome.reason.value,
            decision=settlement.verb.value,
            retry_at_ms=settlement.at_ms or None,
            status=outcome.status,
            code=outcome.code,
            ambiguous=settlement.ambiguous,
            duration_ms=round(duration_s * 1000, 1),
        )


def release(job: ClaimedJob) -> Settlement:
    """Return the settlement that gives back a claim whose request was never made."""
    return Settlement(job.id, job.token, Verb.RELEASE, "-", spends_attempt=False)


def _settlement(job: ClaimedJob, outcome: Outcome, decision: Decision, duration_s: float, now_ms: int) -> Settlement:
    match decision:
        case Complete(reason):
            # No history for the way most jobs end: the tombstone says it all.
            return Settlement(job.id, job.token, Verb.DELIVER, reason.value, entry="{}")
        case RetryAt(at_ms, reason, strikes, ambiguous):
            entry = _entry(job, outcome, duration_s, now_ms)
            return Settlement(job.id, job.token, Verb.RETRY, reason.value, at_ms, strikes, ambiguous, entry=entry)
        case Bury(reason, _, ambiguous):
            entry = _entry(job, outcome, duration_s, now_ms)
            strikes = job.strikes + 1 if job.last_reason == reason else 1
            return Settlement(job.id, job.token, Verb.BURY, reason.value, 0, strikes, ambiguous, entry=entry)
        case Release(reason, ambiguous):
            entry = _entry(job, outcome, duration_s, now_ms)
            return Settlement(
                job.id,
                job.token,
                Verb.RELEASE,
                reason.value,
                ambiguous=ambiguous,
                spends_attempt=False,
                entry=entry,
            )
        case _:
            assert_never(decision)


def _outcome_name(outcome: Outcome) -> str:
    if outcome.kind is OutcomeKind.RETRYABLE and outcome.may_have_landed:
        return "ambiguous"
    return outcome.kind.value


def _entry(job: ClaimedJob, outcome: Outcome, duration_s: float, now_ms: int) -> str:
    return json.dumps(
        {
            "kind": "attempt",
            "at_ms": now_ms,
            "attempt": job.attempts_total,
            "outcome": _outcome_name(outcome),
            "reason": outcome.reason.value,
            "status": outcome.status,
            "code": outcome.code,
            "duration_ms": round(duration_s * 1000),
            "ambiguous": outcome.may_have_landed,
            "excerpt": outcome.excerpt,
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )
