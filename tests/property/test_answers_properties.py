import json

from hypothesis import given
from hypothesis import strategies as st

from trackdesk_producer.contract.doubt import Doubt, Past
from trackdesk_worker.domain.outcome import OutcomeKind, Reason
from trackdesk_worker.trackdesk.answers import AnswerContext, read_answer
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind
from trackdesk_worker.trackdesk.parsed_answer import EXCERPT_CHARS

NOW_MS = 1_800_000_000_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
error_bodies = st.fixed_dictionaries(
    {},
    optional={
        "code": st.integers(-1, 18) | json_values,
        "message": st.sampled_from(
            ["conversion already exists", "conversion limit reached", "type not configured", "Not Found"]
        )
        | json_values,
        "cid": st.text() | json_values,
    },
)
bodies = st.binary(max_size=300) | st.one_of(error_bodies, json_values).map(lambda value: json.dumps(value).encode())
statuses = st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 405, 409, 429, 500, 501, 503]) | st.integers(0, 999)
answers = st.builds(
    Answer,
    status=statuses,
    content_type=st.text(max_size=20),
    retry_after=st.none() | st.text(max_size=40) | st.integers(-5, 10**12).map(str),
    body=bodies,
    truncated=st.booleans(),
)
pasts = st.builds(Past, st.sampled_from(Doubt), st.booleans())
contexts = st.builds(AnswerContext, past=pasts, by_external_cid=st.booleans(), now_ms=st.just(NOW_MS))


@given(answers, contexts)
def test_nothing_a_server_can_say_raises_or_passes_for_success_by_mistake(
    answer: Answer, context: AnswerContext
) -> None:
    outcome = read_answer(answer, context)
    if outcome.kind is OutcomeKind.DELIVERED:
        assert not answer.truncated
        if outcome.reason in (Reason.CONFIRMED_DUPLICATE, Reason.RESTORED_DUPLICATE):
            assert context.past in (Past(Doubt.SAME), Past(Doubt.FORGOTTEN))
            assert answer.status >= 300
        else:
            assert answer.status == 200
            assert isinstance(json.loads(answer.body), dict)
    assert (outcome.cid is not None) == (outcome.reason is Reason.PAIRED)
    assert len(outcome.excerpt) <= EXCERPT_CHARS
    assert outcome.excerpt.isprintable()
    outcome.excerpt.encode()
    assert outcome.retry_after_s is None or outcome.retry_after_s >= 0


@given(answers, contexts)
def test_outside_what_may_have_landed_an_answer_is_a_refusal_trackdesk_stands_by(
    answer: Answer, context: AnswerContext
) -> None:
    outcome = read_answer(answer, context)
    if outcome.kind is OutcomeKind.RETRYABLE and not outcome.may_have_landed:
        assert answer.status >= 400
    if not outcome.spends_attempt:
        assert outcome.kind is OutcomeKind.RETRYABLE
        assert not outcome.may_have_landed


@given(st.sampled_from(FailureKind), st.booleans(), contexts)
def test_a_failure_is_never_a_delivery_and_ambiguous_exactly_if_the_request_may_have_left(
    kind: FailureKind, sent: bool, context: AnswerContext
) -> None:
    outcome = read_answer(Failure(kind, sent, "detail"), context)
    assert outcome.kind is not OutcomeKind.DELIVERED
    assert outcome.may_have_landed == (sent and kind not in (FailureKind.UNSENDABLE, FailureKind.NO_ADDRESS))
