"""The answer table: what each of Trackdesk's answers means for a delivery. Data, read from the top; first
match wins.

The guide does not say which HTTP status belongs to which business error. So error texts and gRPC codes decide
for any status outside 2xx, and the status decides only when the body says nothing. What stays undecidable
without a body: an "already exists" is seen as such only in an empty 409; as an empty 400 it is a caller error
(dead, to be looked at), as an empty 500 it is retried until the attempts are spent. Both keep the ambiguous
mark, and neither is ever success.

May an attempt have landed? Yes after any 5xx, 408 and 499 (something may have given up waiting after the
conversion was written), after timeouts and losses once the request may have left, and after a 2xx or 3xx that
is not Trackdesk's answer. No after the other answers: 400, 401, 403, 404, 405, 409, 425, 429 and a 501 or 505
refuse the request before its effect, and a business error reports that nothing was recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, assert_never

from trackdesk_producer.contract.doubt import Doubt, Past
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind
from trackdesk_worker.trackdesk.messages import Meaning
from trackdesk_worker.trackdesk.parsed_answer import ParsedAnswer, excerpt_of, parse_answer, retry_after_s

FEW_TRIES = 3
CLICK_TRIES, CLICK_WAIT_S = 2, 600.0
"""A click is written before its conversion; one slow retry covers a lag between Trackdesk's own parts."""
EXTERNAL_TRIES, EXTERNAL_WAIT_S = 4, 3_600.0
"""An external id is set by the shop's own integration, perhaps hours after the sale."""

_PASSING_CODES = frozenset({1, 2, 4, 13, 14, 15})  # cancelled, unknown, deadline, internal, unavailable, data loss


class AnswerContext(NamedTuple):
    """What the reader must know of the job. `now_ms` gives a Retry-After date its meaning.

    `past`: what earlier attempts may have left at Trackdesk. `by_external_cid`: the job names its click by
    `externalCid` or `externalClientId`, which Trackdesk may learn later than the sale.
    """

    past: Past
    by_external_cid: bool
    now_ms: int


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One line of the table. Lines that refine one row of the specification share its number."""

    number: int
    name: str
    signal: Callable[[ParsedAnswer, AnswerContext], bool]
    outcome: Outcome
    """Without what only the answer can add: status, code, excerpt, click id and Retry-After."""
    honours_retry_after: bool = False


def _outcome(
    kind: OutcomeKind,
    reason: Reason,
    *,
    may_have_landed: bool = False,
    refused: bool = False,
    tries: int | None = None,
    wait_s: float | None = None,
    effect: TenantEffectKind = TenantEffectKind.NONE,
    spends_attempt: bool = True,
) -> Outcome:
    return Outcome(kind, reason, 0, may_have_landed, refused, tries, wait_s, None, effect, spends_attempt)


def _delivered(reason: Reason) -> Outcome:
    return _outcome(OutcomeKind.DELIVERED, reason, effect=TenantEffectKind.CLEAR)


def _refused(reason: Reason) -> Outcome:
    return _outcome(OutcomeKind.REJECTED, reason, effect=TenantEffectKind.CLEAR)


def _passing(reason: Reason, *, may_have_landed: bool = True) -> Outcome:
    return _outcome(OutcomeKind.RETRYABLE, reason, may_have_landed=may_have_landed)


def _few_tries(reason: Reason, *, may_have_landed: bool = False) -> Outcome:
    return _outcome(OutcomeKind.RETRYABLE, reason, may_have_landed=may_have_landed, tries=FEW_TRIES)


def _slow(tries: int, wait_s: float) -> Outcome:
    return _outcome(
        OutcomeKind.RETRYABLE, Reason.SOURCE_NOT_FOUND, tries=tries, wait_s=wait_s, effect=TenantEffectKind.CLEAR
    )


def _held(reason: Reason) -> Outcome:
    return _outcome(OutcomeKind.RETRYABLE, reason, effect=TenantEffectKind.HOLD, spends_attempt=False)


def _means(meaning: Meaning) -> Callable[[ParsedAnswer, AnswerContext], bool]:
    return lambda parsed, _: parsed.meaning is meaning


def _is_duplicate(parsed: ParsedAnswer) -> bool:
    return parsed.code == 6 or parsed.meaning is Meaning.ALREADY_EXISTS


def _is_silent_conflict(parsed: ParsedAnswer) -> bool:
    """An "already exists" without its body, perhaps. A page is not silence: an edge network answers 409 to its own
    troubles.
    """
    return parsed.status == 409 and parsed.says_nothing


def _confirmed(number: int, name: str, signal: Callable[[ParsedAnswer], bool]) -> tuple[AnswerRow, ...]:
    """Return the rows for an "already exists" after an attempt that may have landed.

    It confirms what that attempt carried. Of other content, and once Trackdesk refused the sale with nothing in doubt,
    it proves nothing.
    """
    outcomes = {
        Doubt.SAME: _delivered(Reason.CONFIRMED_DUPLICATE),
        Doubt.FORGOTTEN: _delivered(Reason.RESTORED_DUPLICATE),
        Doubt.OTHER: _refused(Reason.DUPLICATE_DIFFERS),
    }

    def row(doubt: Doubt, outcome: Outcome) -> AnswerRow:
        past = Past(doubt)
        return AnswerRow(
            number, f"{name}, in doubt: {doubt}", lambda r, context: context.past == past and signal(r), outcome
        )

    return tuple(row(doubt, outcome) for doubt, outcome in outcomes.items())


_THROTTLED = _outcome(OutcomeKind.RETRYABLE, Reason.RATE_LIMITED, effect=TenantEffectKind.FREEZE, spends_attempt=False)

TABLE: tuple[AnswerRow, ...] = (
    AnswerRow(1, "paired", lambda r, _: r.status == 200 and bool(r.cid), _delivered(Reason.PAIRED)),
    # an object with an error code, or a cid that is not text, is not the answer the guide describes: row 3
    AnswerRow(
        2,
        "unpaired",
        lambda r, _: r.status == 200 and r.is_object and r.code is None and not r.odd_cid,
        _delivered(Reason.UNPAIRED),
    ),
    AnswerRow(
        3,
        "not Trackdesk's answer",
        lambda r, _: 200 <= r.status < 400,
        _few_tries(Reason.BAD_ENDPOINT, may_have_landed=True),
    ),
    # below 200 or beyond 599 whatever answered speaks no HTTP, so its body is not believed either
    AnswerRow(
        12,
        "no final status",
        lambda r, _: not 400 <= r.status < 600,
        _passing(Reason.PROTOCOL_ERROR),
        honours_retry_after=True,
    ),
    AnswerRow(4, "limit reached", lambda r, _: r.is_conversion_limit, _refused(Reason.RECURRENCE_LIMIT)),
    *_confirmed(5, "already exists", _is_duplicate),
    AnswerRow(
        5,
        "already exists",
        lambda r, _: _is_duplicate(r),
        _outcome(OutcomeKind.REJECTED, Reason.UNVERIFIED_DUPLICATE, refused=True, effect=TenantEffectKind.CLEAR),
    ),
    AnswerRow(
        6,
        "aborted",
        lambda r, _: r.code == 10,
        _outcome(OutcomeKind.RETRYABLE, Reason.CONFLICT),
    ),
    *_confirmed(6, "silent conflict", _is_silent_conflict),
    AnswerRow(
        6,
        "silent conflict",
        lambda r, _: _is_silent_conflict(r),
        _outcome(OutcomeKind.RETRYABLE, Reason.CONFLICT, refused=True, tries=FEW_TRIES),
    ),
    AnswerRow(6, "conflict", lambda r, _: r.status == 409 and r.meaning is None, _few_tries(Reason.CONFLICT)),
    AnswerRow(
        7,
        "source not found, by external id",
        lambda r, context: r.meaning is Meaning.SOURCE_NOT_FOUND and context.by_external_cid,
        _slow(EXTERNAL_TRIES, EXTERNAL_WAIT_S),
    ),
    AnswerRow(7, "source not found", _means(Meaning.SOURCE_NOT_FOUND), _slow(CLICK_TRIES, CLICK_WAIT_S)),
    AnswerRow(8, "type not found", _means(Meaning.TYPE_NOT_FOUND), _refused(Reason.TYPE_NOT_FOUND)),
    AnswerRow(
        8,
        "pricing not configured",
        _means(Meaning.PRICING_NOT_CONFIGURED),
        _refused(Reason.PRICING_NOT_CONFIGURED),
    ),
    AnswerRow(8, "type not configured", _means(Meaning.TYPE_NOT_CONFIGURED), _refused(Reason.TYPE_NOT_CONFIGURED)),
    AnswerRow(8, "amount missing", _means(Meaning.AMOUNT_MISSING), _refused(Reason.AMOUNT_MISSING)),
    AnswerRow(8, "offer not active", _means(Meaning.OFFER_NOT_ACTIVE), _refused(Reason.OFFER_NOT_ACTIVE)),
    AnswerRow(8, "source expired", _means(Meaning.SOURCE_EXPIRED), _refused(Reason.SOURCE_EXPIRED)),
    AnswerRow(
        8,
        "currency not configured",
        _means(Meaning.CURRENCY_NOT_CONFIGURED),
        _refused(Reason.CURRENCY_NOT_CONFIGURED),
    ),
    AnswerRow(
        8,
        "source blocked",
        lambda r, _: r.meaning is Meaning.SOURCE_BLOCKED and not r.is_throttle,
        _refused(Reason.SOURCE_BLOCKED),
    ),
    AnswerRow(9, "unauthorized", lambda r, _: r.status == 401 or r.code == 16, _held(Reason.UNAUTHORIZED)),
    AnswerRow(9, "forbidden", lambda r, _: r.status == 403 or r.code == 7, _held(Reason.FORBIDDEN)),
    AnswerRow(10, "over the rate limit", lambda r, _: r.is_throttle, _THROTTLED, honours_retry_after=True),
    AnswerRow(
        11,
        "wrong endpoint",
        lambda r, _: r.status in (405, 501, 505) or r.code == 12 or r.is_unrouted,
        _outcome(OutcomeKind.REJECTED, Reason.BAD_ENDPOINT, effect=TenantEffectKind.HOLD),
    ),
    # A silent 404 may be a wrong path or a click that is not found. Holding the tenant for the second would
    # stop a shop over one stale click, so only the job pays: a few tries, for a route that is being replaced,
    # then dead.
    AnswerRow(
        11,
        "silent not found",
        lambda r, _: r.status == 404 and r.says_nothing,
        _few_tries(Reason.BAD_ENDPOINT),
    ),
    AnswerRow(
        12,
        "timed out on their side",
        lambda r, _: r.status in (408, 499),
        _passing(Reason.REQUEST_TIMEOUT),
        honours_retry_after=True,
    ),
    AnswerRow(
        12,
        "too early",
        lambda r, _: r.status == 425,
        _passing(Reason.SERVER_ERROR, may_have_landed=False),
        honours_retry_after=True,
    ),
    AnswerRow(
        12,
        "server error",
        lambda r, _: 500 <= r.status < 600 or r.code in _PASSING_CODES,
        _passing(Reason.SERVER_ERROR),
        honours_retry_after=True,
    ),
    AnswerRow(
        13,
        "any other 4xx",
        lambda *_: True,
        _outcome(OutcomeKind.REJECTED, Reason.CALLER_ERROR),
    ),
)


def read_answer(answer: Answer | Failure, context: AnswerContext) -> Outcome:
    """Return what an answer, or the lack of one, means. Never raises; never delivered without a JSON object
    in a 200, or a duplicate after an attempt that may have landed.
    """
    match answer:
        case Failure():
            return _read_failure(answer)
        case Answer():
            return _read_answer(answer, context)
        case _:
            assert_never(answer)


def _read_answer(answer: Answer, context: AnswerContext) -> Outcome:
    parsed = parse_answer(answer)
    row = next(row for row in TABLE if row.signal(parsed, context))
    outcome = row.outcome
    return Outcome(
        outcome.kind,
        outcome.reason,
        row.number,
        outcome.may_have_landed,
        outcome.refused,
        outcome.tries,
        outcome.wait_s,
        (
            retry_after_s(answer.retry_after, now_ms=context.now_ms)
            if row.honours_retry_after and answer.retry_after
            else None
        ),
        outcome.effect,
        outcome.spends_attempt,
        status=answer.status,
        code=parsed.code,
        excerpt=excerpt_of(answer.body),
        cid=parsed.cid if outcome.reason is Reason.PAIRED else None,
    )


def _read_failure(failure: Failure) -> Outcome:
    match failure.kind:
        case FailureKind.CONNECT_TIMEOUT:
            reason = Reason.CONNECT_TIMEOUT
        case FailureKind.CONNECT_ERROR:
            reason = Reason.CONNECT_ERROR
        case FailureKind.DNS_ERROR:
            reason = Reason.DNS_ERROR
        case FailureKind.TLS_ERROR:
            reason = Reason.TLS_ERROR
        case FailureKind.TIMEOUT:
            reason = Reason.TIMEOUT
        case FailureKind.CONNECTION_LOST:
            reason = Reason.CONNECTION_LOST
        case FailureKind.PROTOCOL_ERROR:
            reason = Reason.PROTOCOL_ERROR
        case FailureKind.NO_ADDRESS:
            # The settings are wrong for every job of the tenant, as a refused key is: no attempt is spent.
            return Outcome(
                OutcomeKind.RETRYABLE,
                Reason.BAD_ENDPOINT,
                11,
                effect=TenantEffectKind.HOLD,
                spends_attempt=False,
                excerpt=failure.detail,
            )
        case FailureKind.CRASHED:
            return Outcome(
                OutcomeKind.RETRYABLE,
                Reason.INTERNAL_ERROR,
                12,
                may_have_landed=failure.sent,
                tries=FEW_TRIES,
                excerpt=failure.detail,
            )
        case FailureKind.UNSENDABLE:
            return Outcome(OutcomeKind.REJECTED, Reason.CALLER_ERROR, 13, excerpt=failure.detail)
        case _:
            assert_never(failure.kind)
    return Outcome(OutcomeKind.RETRYABLE, reason, 12, may_have_landed=failure.sent, excerpt=failure.detail)
