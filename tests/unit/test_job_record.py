"""Identity and record of a job, as text in Redis and as values in Python."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackdesk_producer.contract.doubt import Content, Doubt, doubt_of, read_doubt
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import (
    JobClass,
    JobRecord,
    State,
    external_id_of,
    job_id,
    tenant_of,
)
from trackdesk_producer.contract.trace import NO_TRACE, sound_trace, trace_id_of

LIVE = b'1 in_flight retry fp12 100.50 EUR 1000 2000 2 3 77 1 1 900 1 timeout -\n{"a":\n1}'
TOMBSTONE = b"t1 pfp12 -000000014 3"

tenants = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)


@given(tenants, names)
def test_tenant_and_external_id_are_read_back_from_an_identity(tenant: str, external_id: str) -> None:
    identity = job_id(tenant, external_id)
    assert (tenant_of(identity), external_id_of(identity)) == (tenant, external_id)


@given(tenants, names, names)
def test_with_a_type_too(tenant: str, external_id: str, conversion_type: str) -> None:
    identity = job_id(tenant, external_id, conversion_type)
    assert (tenant_of(identity), external_id_of(identity)) == (tenant, external_id)


@given(st.tuples(tenants, names, st.none() | names), st.tuples(tenants, names, st.none() | names))
def test_no_two_identities_are_equal(one: tuple[str, str, str | None], other: tuple[str, str, str | None]) -> None:
    assert (job_id(*one) == job_id(*other)) == (one == other)


def test_a_live_record_is_read_whole() -> None:
    record = JobRecord.parse("acme/1", LIVE)
    assert (record.tenant, record.external_id, record.state) == ("acme", "1", State.IN_FLIGHT)
    assert (record.job_class, record.fingerprint, record.reason) == (JobClass.RETRY, "fp12", "timeout")
    assert (record.amount, record.currency) == (Decimal("100.50"), "EUR")
    assert (record.accepted_ms, record.at, record.epoch_ms) == (1000, 2000, 900)
    assert (record.attempts, record.attempts_total, record.token) == (2, 3, 77)
    assert (record.ambiguous, record.strikes, record.redrives) == (True, 1, 1)
    assert record.body == b'{"a":\n1}', "line feeds in the body are the body's"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_record_of_an_older_or_a_newer_release_with_fewer_or_more_words_is_read_the_same() -> None:
    traced = JobRecord.parse("acme/1", LIVE.replace(b" timeout -", f" timeout {TRACE}".encode()))
    newer = JobRecord.parse("acme/1", LIVE.replace(b" timeout -", f" timeout {TRACE} - - novel".encode()))
    older = JobRecord.parse("acme/1", LIVE.replace(b" timeout -", b" timeout"))
    assert (traced.trace, newer) == (TRACE, traced)
    assert older == JobRecord.parse("acme/1", LIVE)
    assert JobRecord.parse("acme/1", TOMBSTONE + b" more") == JobRecord.parse("acme/1", TOMBSTONE)


def test_a_record_names_the_contents_in_doubt_and_an_earlier_refusal() -> None:
    words = f" timeout {TRACE} pQ2x9v0L:100.50EUR,*aaaaaaaa:- 1"
    record = JobRecord.parse("acme/1", LIVE.replace(b" timeout -", words.encode()))
    assert record.doubt == (
        Content("pQ2x9v0L", Decimal("100.50"), "EUR", forgotten=False),
        Content("aaaaaaaa", None, None, forgotten=True),
    )
    assert record.refused
    with pytest.raises(ValueError, match="content"):
        JobRecord.parse("acme/1", LIVE.replace(b" timeout -", f" timeout {TRACE} pQ2x9v0L".encode()))


def test_already_exists_proves_what_every_content_in_doubt_has_in_common() -> None:
    now = "pQ2x9v0Lk3hYc1Ff"
    assert doubt_of(read_doubt("-"), now) is Doubt.NONE
    assert doubt_of(read_doubt("pQ2x9v0L:1EUR"), now) is Doubt.SAME
    assert doubt_of(read_doubt("*pQ2x9v0L:1EUR"), now) is Doubt.FORGOTTEN
    assert doubt_of(read_doubt("pQ2x9v0L:1EUR,*pQ2x9v0L:1EUR"), now) is Doubt.FORGOTTEN
    assert doubt_of(read_doubt("aaaaaaaa:1EUR"), now) is Doubt.OTHER
    assert doubt_of(read_doubt("pQ2x9v0L:1EUR,aaaaaaaa:1EUR"), now) is Doubt.OTHER


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "-",
        TRACE.upper(),
        TRACE + "\n",
        TRACE + "-more",
        "ff" + TRACE[2:],
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TRACE.replace("00f067aa0ba902b7", "0" * 16),
        TRACE.replace("-", " "),
        "x" * 10_000,
    ],
)
def test_what_is_no_traceparent_counts_as_no_trace(bad: str) -> None:
    assert (sound_trace(bad), trace_id_of(bad)) == (NO_TRACE, None)


def test_a_traceparent_names_its_trace() -> None:
    assert (sound_trace(TRACE), trace_id_of(TRACE)) == (TRACE, "4bf92f3577b34da6a3ce929d0e0e4736")


def test_a_tombstone_says_how_it_ended_and_nothing_of_the_sale() -> None:
    record = JobRecord.parse("acme/1", TOMBSTONE)
    assert (record.state, record.reason, record.at, record.attempts_total) == (State.DELIVERED, "paired", 5000, 3)
    assert (record.job_class, record.amount, record.currency, record.body) == (None, None, None, b"")
    assert (record.attempts, record.token, record.ambiguous, record.epoch_ms) == (0, 0, False, 1000)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"2 ready",
        LIVE.replace(b" timeout -", b""),
        TOMBSTONE.replace(b"-", b""),
        TOMBSTONE.replace(b"t1 p", b"t1 z"),
        LIVE.replace(b"in_flight", b"lost"),
        LIVE.replace(b" 77 ", b" x "),
        LIVE.replace(b" retry ", b" late "),
        b"1 \xff\xfe",
    ],
)
def test_what_is_no_record_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several messages; that nothing else is raised is the point
        JobRecord.parse("acme/1", raw)


def test_only_delivered_cancelled_and_discarded_are_ends() -> None:
    assert {state for state in State if state.terminal} == {State.DELIVERED, State.CANCELLED, State.DISCARDED}


def test_all_keys_of_a_namespace_share_one_hash_slot() -> None:
    keys = Keys("shop.eu_1")
    made = [keys.turn, keys.wakeups, keys.job("acme/{x}"), keys.ready("acme", "live"), keys.ledger("acme")]
    assert all(key.startswith("{shop.eu_1}:") for key in made)


@pytest.mark.parametrize("namespace", ["", "a b", "{a}", "a:b", "x" * 65, "a\n"])
def test_a_namespace_that_could_break_a_key_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace must be"):
        Keys(namespace)
