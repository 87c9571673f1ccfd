"""One attempt: send a claimed job, read the answer, decide; the result is what the store has to settle."""

import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, assert_never

from trackdesk_producer.contract.record import external_id_of
from trackdesk_producer.contract.trace import NO_TRACE, trace_id_of
from trackdesk_worker.config.tenants import TenantSettings
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind
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
from trackdesk_worker.telemetry.logging import BufferedLog
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.telemetry.tracing import AttemptSpan, Tracing
from trackdesk_worker.trackdesk.answers import AnswerContext, read_answer
from trackdesk_worker.trackdesk.created_at import dated
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind, NotSent

_EXTERNAL_CID, _EXTERNAL_CLIENT_ID = b'"externalCid":', b'"externalClientId":'
"""As keys of a JSON object; inside a value the quotes would be escaped."""


class Sender(Protocol):
    """What delivers one body; `TrackdeskClient` does."""

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        """Return what came back and the seconds it took; never raise for the network's trouble."""


@dataclass(frozen=True, slots=True)
class StoreClock:
    """The store's time, as one claim reported it, carried on by this process' monotonic clock.

    The clock of the machine a worker runs on has no say in a delivery: it may be wrong by hours.
    """

    store_ms: int
    at_s: float
    """Monotonic seconds when the claim's reply came."""
    monotonic: Callable[[], float] = time.monotonic

    def now_ms(self) -> int:
        """Return the store's time now; behind it by no more than the claim's round trip."""
        return self.store_ms + round((self.monotonic() - self.at_s) * 1000)


class Finished(NamedTuple):
    """A claim that ended, with an attempt or without one, ready to be settled. A named tuple: one per delivery."""

    job: ClaimedJob
    settlement: Settlement
    clock: StoreClock
    span: AttemptSpan | None = None
    """Open until the settlement is known; None without tracing."""
    error: Exception | None = None
    """An error of ours that ended it."""


class Attempts:
    """Makes attempts; holds what they all share."""

    def __init__(
        self,
        *,
        sender: Sender,
        settings_for: Callable[[str], TenantSettings],
        metrics: WorkerMetrics,
        log: BufferedLog,
        rng: random.Random,
        tracing: Tracing | None = None,
    ) -> None:
        self._sender = sender
        self._settings_for = settings_for
        self._metrics = metrics
        self._log = log
        self._rng = rng
        self._tracing = tracing

    async def make(self, job: ClaimedJob, clock: StoreClock) -> Finished:
        """Send the job once and decide what becomes of it; `clock` is that of its claim.

        The wide log event and the metrics of the attempt are written here, once; neither holds the body.
        """
        if self._tracing is None:
            return await self._make(job, clock, None)
        span = self._tracing.attempt(job, now_ms=clock.now_ms())
        try:
            return await self._make(job, clock, span)
        except BaseException as error:
            span.crashed(error)
            raise

    async def _make(self, job: ClaimedJob, clock: StoreClock, span: AttemptSpan | None) -> Finished:
        policy, answer, duration_s, error = await self._exchange(job, clock)
        now_ms = clock.now_ms()
        by_external_cid = _EXTERNAL_CID in job.body or _EXTERNAL_CLIENT_ID in job.body
        outcome = read_answer(answer, AnswerContext(job.past, by_external_cid, now_ms))
        age_ms = max(0, now_ms - job.epoch_ms)
        decision = decide(job, outcome, age_ms=age_ms, rng=self._rng, policy=policy)
        frozen_ms = freeze_ms(outcome, now_ms=now_ms, rng=self._rng, policy=policy)
        settlement = _settlement(job, outcome, decision, frozen_ms, duration_s, now_ms)
        if span is not None:
            span.answered(outcome, settlement, duration_s)
        self._record(job, outcome, settlement, duration_s, _trace_ids(job, span))
        return Finished(job, settlement, clock, span, error)

    async def _exchange(
        self, job: ClaimedJob, clock: StoreClock
    ) -> tuple[Policy, Answer | Failure, float, Exception | None]:
        """Send it. An error of ours is a failure: what was not sent leaves no doubt, what may have been does."""
        policy, sent = Policy(), False
        try:
            own = self._settings_for(job.tenant)
            policy = own.policy
            body = dated(job.body, accepted_ms=job.accepted_ms, now_ms=clock.now_ms(), policy=own.created_at)
            sent = True  # from here on, unless the sender says otherwise
            answer, duration_s = await self._sender.send(job.tenant, body)
        except NotSent as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            return policy, Failure(FailureKind.CRASHED, sent=False, detail=type(cause).__name__), 0.0, cause
        except Exception as error:
            return policy, Failure(FailureKind.CRASHED, sent=sent, detail=type(error).__name__), 0.0, error
        return policy, answer, duration_s, None

    def flush_log(self) -> None:
        """Write the log lines of attempts made; to be called before they are settled."""
        self._log.flush()

    def _record(
        self, job: ClaimedJob, outcome: Outcome, settlement: Settlement, duration_s: float, trace: Mapping[str, str]
    ) -> None:
        name = _outcome_name(outcome)
        self._metrics.attempt(outcome=name, status=outcome.status, reason=outcome.reason, duration_s=duration_s)
        self._log.info(
            "delivery.attempt",
            tenant=job.tenant,
            external_id=external_id_of(job.id),
            job_class=job.job_class,
            attempt=job.attempts_total,
            outcome=name,
            reason=outcome.reason,
            decision=settlement.verb,
            retry_in_ms=settlement.delay_ms or None,
            status=outcome.status,
            code=outcome.code,
            ambiguous=job.ambiguous or outcome.may_have_landed,
            duration_ms=round(duration_s * 1000, 1),
            **trace,
        )


def release(job: ClaimedJob, clock: StoreClock) -> Finished:
    """Return the end of a claim whose request is not made: the job becomes ready again and no attempt is spent."""
    return Finished(job, Settlement(job.id, job.token, Verb.RELEASE, "-", spends_attempt=False, probe=job.probe), clock)


_UNTRACED: Mapping[str, str] = {}


def _trace_ids(job: ClaimedJob, span: AttemptSpan | None) -> Mapping[str, str]:
    """Return what leads from the log line to the trace: the attempt's own span, else the trace of the enqueue."""
    if span is not None:
        return span.ids
    if job.trace == NO_TRACE:
        return _UNTRACED
    trace_id = trace_id_of(job.trace)
    return _UNTRACED if trace_id is None else {"trace_id": trace_id}


def _settlement(
    job: ClaimedJob, outcome: Outcome, decision: Decision, frozen_ms: int, duration_s: float, now_ms: int
) -> Settlement:
    delay_ms, strikes, spends_attempt, past_horizon = 0, job.strikes, True, False
    match decision:
        case Complete():
            verb = Verb.DELIVER
        case Retry():
            verb, delay_ms, strikes = Verb.RETRY, decision.delay_ms, decision.strikes
        case Bury():
            verb = Verb.BURY
            strikes = job.strikes + 1 if job.last_reason == decision.reason else 1
            past_horizon = decision.past_horizon
        case Release():
            verb, delay_ms, spends_attempt = Verb.RELEASE, decision.delay_ms, False
        case _:
            assert_never(decision)
    return Settlement(
        job.id,
        job.token,
        verb,
        decision.reason,
        delay_ms,
        strikes,
        ambiguous=outcome.may_have_landed,
        refused=outcome.refused,
        spends_attempt=spends_attempt,
        # No history for the way most jobs end: the tombstone says it all.
        entry="{}" if verb is Verb.DELIVER else _entry(job, outcome, duration_s, now_ms),
        health=outcome.health,
        probe=job.probe,
        effect=outcome.effect,
        effect_ms=frozen_ms,
        past_horizon=past_horizon,
    )


def _outcome_name(outcome: Outcome) -> str:
    if outcome.kind is OutcomeKind.RETRYABLE and outcome.may_have_landed:
        return "ambiguous"
    return outcome.kind


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
