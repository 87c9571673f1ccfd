"""The answer table, row by row, under each way Trackdesk may map its errors to HTTP."""

import json
from dataclasses import dataclass

import pytest

from trackdesk_producer.contract.doubt import Doubt, Past
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind
from trackdesk_worker.trackdesk.answers import TABLE, AnswerContext, read_answer
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind

NOW_MS = 1_800_000_000_000
GATEWAY = {3: 400, 9: 400, 11: 400, 16: 401, 7: 403, 5: 404, 6: 409, 10: 409, 8: 429, 1: 499}
GATEWAY |= {2: 500, 13: 500, 15: 500, 12: 501, 14: 503, 4: 504}


def context(
    *, ambiguous_before: bool = False, past: Past | None = None, by_external_cid: bool = False
) -> AnswerContext:
    past = past or Past(Doubt.SAME if ambiguous_before else Doubt.NONE)
    return AnswerContext(past=past, by_external_cid=by_external_cid, now_ms=NOW_MS)


def answer(status: int, body: object = None, *, retry_after: str | None = None, truncated: bool = False) -> Answer:
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, "application/json", retry_after, raw, truncated)


def error(code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message, "details": []}


def read(status: int, body: object = None, *, ambiguous_before: bool = False) -> Outcome:
    return read_answer(answer(status, body), context(ambiguous_before=ambiguous_before))


# Rows 1 to 3: success, and what only looks like it


def test_a_click_id_means_delivered_and_paired() -> None:
    outcome = read(200, {"cid": "0b7a4a5e-4c1e"})
    assert (outcome.kind, outcome.reason, outcome.row) == (OutcomeKind.DELIVERED, Reason.PAIRED, 1)
    assert outcome.cid == "0b7a4a5e-4c1e"
    assert outcome.effect is TenantEffectKind.CLEAR


@pytest.mark.parametrize("body", [{}, {"cid": ""}, {"cid": "  "}, {"cid": None}, {"status": "ok"}])
def test_an_object_without_a_click_id_means_delivered_but_unpaired(body: object) -> None:
    outcome = read(200, body)
    assert (outcome.kind, outcome.reason, outcome.row) == (OutcomeKind.DELIVERED, Reason.UNPAIRED, 2)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(200, b"<!doctype html><title>Trackdesk</title>", id="a web page"),
        pytest.param(200, b"", id="nothing"),
        pytest.param(200, b"null", id="null"),
        pytest.param(200, b'"cid"', id="a string"),
        pytest.param(200, b'[{"cid":"x"}]', id="a list"),
        pytest.param(200, b'{"cid":"x"', id="half an object"),
        pytest.param(200, b'{"cid":"x"} trailing', id="an object and more"),
        pytest.param(200, b'{"cid":"x","cid":""}', id="a name twice"),
        pytest.param(200, b'{"cid":"x","v":NaN}', id="NaN"),
        pytest.param(200, b'{"cid":"\xff"}', id="not UTF-8"),
        pytest.param(200, '{"cid":"x"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(200, b'{"cid":"x","v":' + b"9" * 9_000 + b"}", id="a number of 9,000 digits"),
        pytest.param(200, b'{"cid":"x","v":' + b"[" * 8_000 + b"]" * 8_000 + b"}", id="8,000 levels deep"),
        pytest.param(200, {"cid": 5}, id="a cid that is a number"),
        pytest.param(200, {"cid": ["x"]}, id="a cid that is a list"),
        pytest.param(200, error(5, "conversion source not found"), id="an error under 200"),
        pytest.param(201, {"cid": "x"}, id="created"),
        pytest.param(202, {"cid": "x"}, id="accepted"),
        pytest.param(204, None, id="no content"),
        pytest.param(206, {"cid": "x"}, id="partial"),
        pytest.param(301, None, id="moved"),
        pytest.param(302, {"cid": "x"}, id="found"),
        pytest.param(304, None, id="not modified"),
    ],
)
def test_what_is_not_the_documented_success_is_retried_a_few_times_and_may_have_landed(
    status: int, body: object
) -> None:
    outcome = read(status, body)
    assert (outcome.kind, outcome.reason, outcome.row) == (OutcomeKind.RETRYABLE, Reason.BAD_ENDPOINT, 3)
    assert outcome.tries == 3
    assert outcome.may_have_landed
    assert outcome.spends_attempt


def test_a_success_whose_body_was_cut_is_not_believed() -> None:
    outcome = read_answer(answer(200, {"cid": "x"}, truncated=True), context())
    assert (outcome.row, outcome.may_have_landed) == (3, True)


# Rows 4 to 13 under the profiles. A case: gRPC code, message, and what it means whatever the HTTP status.


@dataclass(frozen=True)
class Case:
    code: int
    message: str
    row: int
    kind: OutcomeKind
    reason: Reason
    effect: TenantEffectKind = TenantEffectKind.CLEAR
    ambiguous_before: bool = False


REJECTED, RETRYABLE, DELIVERED = OutcomeKind.REJECTED, OutcomeKind.RETRYABLE, OutcomeKind.DELIVERED
CASES = [
    Case(9, "conversion limit reached", 4, REJECTED, Reason.RECURRENCE_LIMIT),
    Case(8, "conversion count limit reached", 4, REJECTED, Reason.RECURRENCE_LIMIT),
    Case(8, "limit of conversions reached", 4, REJECTED, Reason.RECURRENCE_LIMIT),
    Case(8, "Limit reached", 4, REJECTED, Reason.RECURRENCE_LIMIT),
    Case(8, "limit per click reached", 4, REJECTED, Reason.RECURRENCE_LIMIT),
    Case(
        6, "Conversion count limit reached, already exists", 4, REJECTED, Reason.RECURRENCE_LIMIT, ambiguous_before=True
    ),
    Case(6, "conversion already exists", 5, REJECTED, Reason.UNVERIFIED_DUPLICATE),
    Case(6, "conversion already exists", 5, DELIVERED, Reason.CONFIRMED_DUPLICATE, ambiguous_before=True),
    Case(2, "Conversion  Already\nExists", 5, DELIVERED, Reason.CONFIRMED_DUPLICATE, ambiguous_before=True),
    Case(6, "", 5, REJECTED, Reason.UNVERIFIED_DUPLICATE),
    Case(10, "transaction aborted", 6, RETRYABLE, Reason.CONFLICT, TenantEffectKind.NONE),
    Case(10, "transaction aborted", 6, RETRYABLE, Reason.CONFLICT, TenantEffectKind.NONE, ambiguous_before=True),
    Case(5, "conversion source not found", 7, RETRYABLE, Reason.SOURCE_NOT_FOUND),
    Case(5, "conversion source with the external cid not found", 7, RETRYABLE, Reason.SOURCE_NOT_FOUND),
    Case(5, "conversion source with the client not found", 7, RETRYABLE, Reason.SOURCE_NOT_FOUND),
    Case(5, "conversion type not found", 8, REJECTED, Reason.TYPE_NOT_FOUND),
    Case(9, "type not configured", 8, REJECTED, Reason.TYPE_NOT_CONFIGURED),
    Case(9, "pricing for conversion type not configured", 8, REJECTED, Reason.PRICING_NOT_CONFIGURED),
    Case(3, "missing conversion amount", 8, REJECTED, Reason.AMOUNT_MISSING),
    Case(9, "offer not active", 8, REJECTED, Reason.OFFER_NOT_ACTIVE),
    Case(9, "expired source", 8, REJECTED, Reason.SOURCE_EXPIRED),
    Case(9, "currency not configured", 8, REJECTED, Reason.CURRENCY_NOT_CONFIGURED),
    Case(7, "conversion source is blocked", 8, REJECTED, Reason.SOURCE_BLOCKED),
    Case(16, "unauthenticated", 9, RETRYABLE, Reason.UNAUTHORIZED, TenantEffectKind.HOLD),
    Case(7, "permission denied", 9, RETRYABLE, Reason.FORBIDDEN, TenantEffectKind.HOLD),
    Case(8, "rate limit reached", 10, RETRYABLE, Reason.RATE_LIMITED, TenantEffectKind.FREEZE),
    Case(
        8,
        "too many requests, blocked until the minute ends",
        10,
        RETRYABLE,
        Reason.RATE_LIMITED,
        TenantEffectKind.FREEZE,
    ),
    Case(8, "limit exceeded", 10, RETRYABLE, Reason.RATE_LIMITED, TenantEffectKind.FREEZE),
    Case(12, "method not allowed", 11, REJECTED, Reason.BAD_ENDPOINT, TenantEffectKind.HOLD),
    Case(13, "internal error", 12, RETRYABLE, Reason.SERVER_ERROR, TenantEffectKind.NONE),
    Case(14, "unavailable", 12, RETRYABLE, Reason.SERVER_ERROR, TenantEffectKind.NONE),
    Case(4, "deadline exceeded", 12, RETRYABLE, Reason.SERVER_ERROR, TenantEffectKind.NONE),
]


def _name(value: object) -> str:
    if isinstance(value, Case):
        return f"code {value.code} {value.message or 'no message'!r} {'again' if value.ambiguous_before else 'first'}"
    return str(value)


@pytest.mark.parametrize("profile", ["gateway", "all-400", "all-500"])
@pytest.mark.parametrize("case", CASES, ids=_name)
def test_an_error_means_the_same_under_every_mapping_that_keeps_its_body(case: Case, profile: str) -> None:
    status = {"gateway": GATEWAY[case.code], "all-400": 400, "all-500": 500}[profile]
    outcome = read(status, error(case.code, case.message), ambiguous_before=case.ambiguous_before)
    assert (outcome.row, outcome.kind, outcome.reason, outcome.effect) == (
        case.row,
        case.kind,
        case.reason,
        case.effect,
    )
    assert outcome.may_have_landed == (case.row == 12)
    assert outcome.code == case.code
    assert outcome.status == status


@pytest.mark.parametrize("case", [case for case in CASES if case.row in (4, 5, 7, 8) and case.message], ids=_name)
def test_the_message_alone_is_enough(case: Case) -> None:
    outcome = read(422, {"message": case.message}, ambiguous_before=case.ambiguous_before)
    assert (outcome.row, outcome.kind, outcome.reason) == (case.row, case.kind, case.reason)


@pytest.mark.parametrize(
    ("status", "again", "row", "kind", "reason"),
    [
        (400, False, 13, REJECTED, Reason.CALLER_ERROR),
        (400, True, 13, REJECTED, Reason.CALLER_ERROR),
        (401, False, 9, RETRYABLE, Reason.UNAUTHORIZED),
        (403, False, 9, RETRYABLE, Reason.FORBIDDEN),
        (404, False, 11, RETRYABLE, Reason.BAD_ENDPOINT),
        (404, True, 11, RETRYABLE, Reason.BAD_ENDPOINT),
        (409, False, 6, RETRYABLE, Reason.CONFLICT),
        (409, True, 6, DELIVERED, Reason.CONFIRMED_DUPLICATE),
        (429, False, 10, RETRYABLE, Reason.RATE_LIMITED),
        (499, False, 12, RETRYABLE, Reason.REQUEST_TIMEOUT),
        (500, False, 12, RETRYABLE, Reason.SERVER_ERROR),
        (500, True, 12, RETRYABLE, Reason.SERVER_ERROR),
        (501, False, 11, REJECTED, Reason.BAD_ENDPOINT),
        (503, True, 12, RETRYABLE, Reason.SERVER_ERROR),
    ],
)
@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}"], ids=["empty", "blank", "empty object"])
def test_a_silent_answer_is_read_by_its_status(
    status: int, again: bool, row: int, kind: OutcomeKind, reason: Reason, body: bytes
) -> None:
    outcome = read(status, body, ambiguous_before=again)
    assert (outcome.row, outcome.kind, outcome.reason) == (row, kind, reason)


# Rows 5 and 6: what an "already exists" proves, with a body and without


@pytest.mark.parametrize(
    ("past", "kind", "reason"),
    [
        (Past(Doubt.SAME), DELIVERED, Reason.CONFIRMED_DUPLICATE),
        (Past(Doubt.FORGOTTEN), DELIVERED, Reason.RESTORED_DUPLICATE),
        (Past(Doubt.OTHER), REJECTED, Reason.DUPLICATE_DIFFERS),
        (Past(), REJECTED, Reason.UNVERIFIED_DUPLICATE),
        *((Past(doubt, refused=True), REJECTED, Reason.UNVERIFIED_DUPLICATE) for doubt in Doubt),
    ],
)
def test_already_exists_confirms_only_the_content_in_doubt_and_nothing_once_refused(
    past: Past, kind: OutcomeKind, reason: Reason
) -> None:
    outcome = read_answer(answer(409, error(6, "conversion already exists")), context(past=past))
    assert (outcome.row, outcome.kind, outcome.reason) == (5, kind, reason)
    assert outcome.refused == (reason is Reason.UNVERIFIED_DUPLICATE)
    silent = read_answer(answer(409), context(past=past))
    if reason is Reason.UNVERIFIED_DUPLICATE:
        assert (silent.row, silent.kind, silent.reason, silent.tries) == (6, RETRYABLE, Reason.CONFLICT, 3)
        assert silent.refused, "it may have been an already exists without its body"
    else:
        assert (silent.row, silent.kind, silent.reason, silent.refused) == (6, kind, reason, False)


# Row 6


@pytest.mark.parametrize(
    "body",
    [b"<html>Error 1001: DNS resolution error</html>", error(9, "try another way"), b'{"code":6'],
    ids=["a page", "another error", "half an object"],
)
def test_a_409_that_says_something_else_never_confirms_a_duplicate(body: object) -> None:
    outcome = read(409, body, ambiguous_before=True)
    assert (outcome.row, outcome.kind, outcome.reason, outcome.tries) == (6, RETRYABLE, Reason.CONFLICT, 3)


def test_an_aborted_transaction_is_retried_as_long_as_attempts_last() -> None:
    assert read(409, error(10, "aborted")).tries is None


# Row 7


def test_a_click_that_is_not_found_gets_one_slow_retry_and_an_external_id_a_few() -> None:
    body = error(5, "conversion source with the external cid not found")
    by_click = read_answer(answer(404, body), context())
    by_external_id = read_answer(answer(404, body), context(by_external_cid=True))
    assert (by_click.tries, by_click.wait_s) == (2, 600.0)
    assert (by_external_id.tries, by_external_id.wait_s) == (4, 3600.0)


# Rows 9 and 10


def test_waiting_for_the_tenant_spends_no_attempt() -> None:
    for status in (401, 403, 429):
        outcome = read(status, b"<html>refused</html>")
        assert (outcome.kind, outcome.spends_attempt, outcome.may_have_landed) == (RETRYABLE, False, False)


def test_a_firewall_that_blocks_us_holds_the_tenant_and_buries_nothing() -> None:
    outcome = read(403, {"message": "source ip blocked"})
    assert (outcome.row, outcome.effect) == (9, TenantEffectKind.HOLD)


def test_a_bare_limit_with_a_time_to_come_back_at_is_about_pace() -> None:
    outcome = read_answer(answer(429, error(8, "limit reached"), retry_after="30"), context())
    assert (outcome.row, outcome.effect) == (10, TenantEffectKind.FREEZE)
    limit = read_answer(answer(429, error(8, "conversion limit reached"), retry_after="30"), context())
    assert (limit.row, limit.reason) == (4, Reason.RECURRENCE_LIMIT)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30.0),
        (" 0 ", 0.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 08:01:00 -0000", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("9" * 400, None),
        ("٣", None),
        ("Fri, 99 Jan 2027 08:01:00 GMT", None),
        ("Fri, 15 Jan 99999999999 08:01:00 GMT", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_in_seconds_or_as_a_date_and_garbage_is_nothing(
    status: int, header: str, seconds: float | None
) -> None:
    assert read_answer(answer(status, retry_after=header), context()).retry_after_s == seconds


def test_retry_after_counts_only_where_the_table_says_so() -> None:
    assert read_answer(answer(302, retry_after="30"), context()).retry_after_s is None


# Row 11


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (405, None),
        (501, None),
        (505, None),
        (404, b"<html>Not Found</html>"),
        (404, b"404 page not found\n"),
        (404, error(5, "Not Found")),
        (404, {"statusCode": 404, "message": "Cannot POST /tracking/conversion/v1", "error": "Not Found"}),
    ],
)
def test_a_wrong_endpoint_buries_the_job_and_holds_the_tenant(status: int, body: object) -> None:
    outcome = read(status, body, ambiguous_before=True)
    assert (outcome.row, outcome.kind, outcome.reason) == (11, REJECTED, Reason.BAD_ENDPOINT)
    assert outcome.effect is TenantEffectKind.HOLD


def test_a_long_page_cut_at_the_limit_is_still_a_page() -> None:
    outcome = read_answer(answer(404, b"<html>" + b"x" * 16_378, truncated=True), context())
    assert (outcome.row, outcome.effect) == (11, TenantEffectKind.HOLD)


def test_a_silent_404_does_not_hold_the_tenant_because_it_may_be_one_stale_click() -> None:
    outcome = read(404)
    assert (outcome.row, outcome.tries, outcome.effect) == (11, 3, TenantEffectKind.NONE)


def test_a_404_with_an_unknown_business_error_is_the_callers() -> None:
    assert read(404, error(5, "affiliate is unheard of")).row == 13


# Rows 12 and 13


@pytest.mark.parametrize(
    ("status", "landed"), [(408, True), (425, False), (499, True), (500, True), (502, True), (504, True), (599, True)]
)
def test_passing_trouble_is_retried_and_marked_if_it_may_have_landed(status: int, landed: bool) -> None:
    outcome = read(status, b"<html>upstream</html>")
    assert (outcome.row, outcome.kind, outcome.may_have_landed, outcome.tries) == (12, RETRYABLE, landed, None)


@pytest.mark.parametrize("status", [0, 101, 199, 600, 999])
def test_what_speaks_no_http_is_never_believed_even_if_it_claims_a_duplicate(status: int) -> None:
    outcome = read(status, error(6, "conversion already exists"), ambiguous_before=True)
    assert (outcome.row, outcome.kind, outcome.reason) == (12, RETRYABLE, Reason.PROTOCOL_ERROR)
    assert outcome.may_have_landed


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.CONNECT_TIMEOUT, Reason.CONNECT_TIMEOUT),
        (FailureKind.CONNECT_ERROR, Reason.CONNECT_ERROR),
        (FailureKind.DNS_ERROR, Reason.DNS_ERROR),
        (FailureKind.TLS_ERROR, Reason.TLS_ERROR),
        (FailureKind.TIMEOUT, Reason.TIMEOUT),
        (FailureKind.CONNECTION_LOST, Reason.CONNECTION_LOST),
        (FailureKind.PROTOCOL_ERROR, Reason.PROTOCOL_ERROR),
    ],
)
def test_no_answer_is_retried_under_its_own_name(kind: FailureKind, reason: Reason) -> None:
    for sent in (True, False):
        outcome = read_answer(Failure(kind, sent, "why"), context())
        assert (outcome.row, outcome.kind, outcome.reason) == (12, RETRYABLE, reason)
        assert outcome.may_have_landed is sent
        assert outcome.excerpt == "why"


def test_a_body_that_cannot_be_sent_is_dead_at_once() -> None:
    outcome = read_answer(Failure(FailureKind.UNSENDABLE, sent=False, detail="ValueError"), context())
    assert (outcome.row, outcome.kind, outcome.reason) == (13, REJECTED, Reason.CALLER_ERROR)


def test_settings_without_an_address_hold_the_tenant_and_spend_nothing() -> None:
    outcome = read_answer(Failure(FailureKind.NO_ADDRESS, sent=False, detail="why"), context())
    assert (outcome.row, outcome.kind, outcome.reason) == (11, RETRYABLE, Reason.BAD_ENDPOINT)
    assert (outcome.effect, outcome.spends_attempt, outcome.may_have_landed) == (TenantEffectKind.HOLD, False, False)


@pytest.mark.parametrize("sent", [True, False])
def test_an_error_of_ours_gets_a_few_tries_and_is_doubt_only_if_it_may_have_been_sent(sent: bool) -> None:
    outcome = read_answer(Failure(FailureKind.CRASHED, sent=sent, detail="KeyError"), context())
    assert (outcome.kind, outcome.reason, outcome.tries) == (RETRYABLE, Reason.INTERNAL_ERROR, 3)
    assert outcome.may_have_landed is sent


@pytest.mark.parametrize("status", [400, 402, 406, 410, 413, 415, 422, 451])
def test_any_other_4xx_is_dead_and_says_nothing_about_the_tenant(status: int) -> None:
    outcome = read(status, error(3, 'proto: syntax error (line 1:5): invalid value "x"'))
    assert (outcome.row, outcome.kind, outcome.reason) == (13, REJECTED, Reason.CALLER_ERROR)
    assert outcome.effect is TenantEffectKind.NONE


# The excerpt, and the table itself


def test_the_excerpt_is_one_short_printable_line() -> None:
    outcome = read(500, b"line one\r\n\tline two \x00\x1b[31m\xff" + b"x" * 2_000)
    assert outcome.excerpt.startswith("line one line two [31m\ufffdxxx")
    assert len(outcome.excerpt) == 512


def test_half_a_surrogate_pair_cannot_spoil_what_is_stored() -> None:
    outcome = read(200, b'{"cid":"ab\\ud800cd"}')
    assert outcome.cid == "abcd"


def test_every_row_of_the_specification_is_in_the_table_and_names_are_distinct() -> None:
    assert {row.number for row in TABLE} == set(range(1, 14))
    assert len({row.name for row in TABLE}) == len(TABLE)
