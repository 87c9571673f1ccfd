"""Whatever goes in: valid conversions survive every form, and junk is refused in our words only."""

import json
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.measure.sales import sale
from trackdesk_producer.conversion.currencies import MINOR_UNITS
from trackdesk_producer.conversion.fast_path import ALWAYS_FITS_CHARACTERS, fill_from_guide_body
from trackdesk_producer.conversion.model import (
    Conversion,
    ConversionStatus,
    parse_conversion,
    parse_query,
)
from trackdesk_producer.conversion.rules import MAX_BODY_BYTES, PLACEHOLDERS
from trackdesk_producer.conversion.wire import fingerprint, post_body, query_string
from trackdesk_producer.errors import ConversionInvalid

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def outcome_of(parse: Callable[[Any], Conversion], data: Any) -> Conversion | ConversionInvalid:
    try:
        return parse(data)
    except ConversionInvalid as refused:
        return refused


def text(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=most)


def name(most: int = 60) -> st.SearchStrategy[str]:
    usable = text(most).filter(lambda value: not value.isspace() and value not in PLACEHOLDERS)
    return usable.filter(lambda value: not value.lstrip().lower().startswith(("{", "%7b")))


offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(
    min_value=datetime(1990, 1, 1), max_value=datetime(2026, 2, 1), timezones=offsets  # noqa: DTZ001
)  # fmt: skip
optional: dict[str, st.SearchStrategy[Any]] = {
    "amount": st.from_regex(r"[0-9]{1,15}(\.[0-9]{1,9})?", fullmatch=True, alphabet="0123456789."),
    "currency": st.sampled_from(sorted(MINOR_UNITS)),
    "externalId": name(),
    "customerId": text(60).filter(lambda value: value not in PLACEHOLDERS),
    "customParams": st.dictionaries(
        st.sampled_from([f"advS{number}" for number in range(1, 6)]),
        text(60).filter(lambda value: value not in PLACEHOLDERS),
    ),
    "status": st.sampled_from([status.value for status in ConversionStatus]),
    "createdAt": st.one_of(times, times.map(datetime.isoformat)),
    "couponCodes": st.lists(name(20), max_size=5),
    "qualified": st.booleans(),
}
bodies = st.builds(
    lambda click, value, rest: {"conversionTypeCode": "sale", click: value, "revenueOriginId": "o", **rest},
    st.sampled_from(["cid", "externalCid", "externalClientId"]),
    name(),
    st.fixed_dictionaries({}, optional=optional),
)


@given(bodies)
def test_a_conversion_survives_the_way_through_body_and_query(body: dict[str, Any]) -> None:
    sale = parse_conversion(body, now=NOW)
    sent = json.loads(post_body(sale))
    assert parse_conversion(sent, now=NOW) == sale
    query = parse_qs(query_string(sent), strict_parsing=True, encoding="utf-8", errors="strict")
    assert parse_query(query, now=NOW) == sale


@given(bodies)
def test_the_body_is_what_json_would_write(body: dict[str, Any]) -> None:
    written = post_body(parse_conversion(body, now=NOW))
    assert written == json.dumps(json.loads(written), ensure_ascii=False, separators=(",", ":")).encode()


@given(bodies)
def test_python_names_and_wire_names_have_one_fingerprint(body: dict[str, Any]) -> None:
    sale = parse_conversion(body, now=NOW)
    again = Conversion(**sale.model_dump())
    assert again == sale
    assert fingerprint(again) == fingerprint(sale)
    assert fingerprint(sale.with_external_id("another")) == fingerprint(sale)


@given(bodies, bodies)
def test_different_content_has_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    first = parse_conversion(one | {"amount": "1"}, now=NOW).with_external_id("x")
    second = parse_conversion(other | {"amount": "1"}, now=NOW).with_external_id("x")
    assert (first == second) == (fingerprint(first) == fingerprint(second))


@pytest.mark.parametrize("widest", ['"', "\\", "€", "😀"])
def test_a_body_below_the_free_limit_always_fits(widest: str) -> None:
    coupons = [widest] * 50
    param = widest * ((ALWAYS_FITS_CHARACTERS - len(coupons)) // 5)
    largest = {
        "conversionTypeCode": widest * 1024,
        "externalClientId": widest * 1024,
        "amount": "1" * 15 + "." + "1" * 9,
        "currency": "EUR",
        "externalId": widest * 255,
        "customerId": widest * 255,
        "customParams": {f"advS{number}": param for number in range(1, 6)},
        "status": "CONVERSION_STATUS_QUALITY_CONTROL",
        "createdAt": "2026-01-01T00:00:00.123456Z",
        "couponCodes": coupons,
        "revenueOriginId": widest * 1024,
        "qualified": False,
    }
    assert len(post_body(parse_conversion(largest, now=NOW))) <= MAX_BODY_BYTES


@given(st.integers(0, 1024), st.sampled_from(['"', "€", "😀"]))
def test_no_accepted_body_outgrows_the_limit(length: int, widest: str) -> None:
    body = {
        "conversionTypeCode": "sale",
        "cid": widest * 1024,
        "customParams": {f"advS{number}": widest * max(length, 1) for number in range(1, 6)},
    }
    outcome = outcome_of(parse_conversion, body)
    if isinstance(outcome, Conversion):
        assert len(post_body(outcome.with_external_id(widest * 255))) <= MAX_BODY_BYTES
    else:
        assert [problem.field for problem in outcome.problems] == ["conversion"]


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.datetimes(),
    st.sampled_from(sorted(PLACEHOLDERS)), st.datetimes(timezones=st.timezones()), st.just("\ud800"),
)  # fmt: skip
junk = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = sorted(
    {"conversionTypeCode", "conversion_type_code", "cid", "externalCid", "external_client_id", "amount"}
    | {"currency", "externalId", "customer_id", "customParams", "status", "createdAt", "couponCodes", "qualified"}
    | {"revenueOriginId", "amount.value", "currency.code", "customParams.advS1", "customParams.advS7", "x"}
)
junk_objects = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), st.text(max_size=8), st.integers(), st.none()),
    st.one_of(junk, st.dictionaries(st.sampled_from(["value", "code", "advS1", "adv_s2", "advS9"]), junk, max_size=3)),
)


@pytest.mark.parametrize("parse", [parse_conversion, parse_query])
@given(data=st.one_of(junk, junk_objects))
def test_junk_is_accepted_or_refused_but_never_breaks_anything(parse: Callable[[Any], Conversion], data: Any) -> None:
    outcome = outcome_of(parse, data)
    if isinstance(outcome, Conversion):
        assert parse_conversion(json.loads(post_body(outcome))) == outcome
        assert len(fingerprint(outcome)) == 16
        assert isinstance(outcome.warnings(), tuple)
    else:
        assert outcome.problems
        assert str(outcome).encode()
        assert all(problem.field and problem.rule and problem.remedy for problem in outcome.problems)


changes: dict[str, st.SearchStrategy[Any]] = {
    "cid": st.one_of(name(8), st.sampled_from(["%7Bx", " {x", "OUR_CID", ""])),
    "externalCid": name(8),
    "amount": st.one_of(st.none(), st.dictionaries(st.sampled_from(["value", "valeu"]), scalars, max_size=2)),
    "currency": st.sampled_from([{"code": "EUR"}, {"code": "ABC"}, {"code": None}, {}, "EUR", {"code": "EUR", "x": 1}]),
    "externalId": st.one_of(name(8), scalars),
    "customerId": st.one_of(st.text(max_size=3), st.just("{cid}")),
    "customParams": st.one_of(
        scalars,
        st.dictionaries(
            st.sampled_from(["advS1", "adv_s1", "advS2", "advS9"]), st.one_of(text(9), scalars), max_size=3
        ),
    ),
    "status": st.sampled_from([*ConversionStatus, "CONVERSION_STATUS_APPROVED", "APPROVED", None]),
    "createdAt": st.sampled_from(["2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2026-02-30T00:00:00Z", None, 0]),
    "couponCodes": st.one_of(st.lists(st.one_of(name(4), scalars), max_size=3), st.just(["x"] * 51), scalars),
    "revenueOriginId": st.one_of(name(4), st.none()),
    "qualified": st.one_of(st.booleans(), scalars),
    "external_id": name(4),
}
nearly_sound = st.lists(
    st.one_of([st.tuples(st.just(key), values) for key, values in changes.items()]), max_size=3
).map(lambda pairs: {**sale("o-1"), **dict(pairs)})


@given(data=st.one_of(nearly_sound, junk_objects))
def test_the_fast_path_takes_nothing_that_the_general_path_would_not(data: dict[Any, Any]) -> None:
    bare = Conversion.__new__(Conversion)
    taken = fill_from_guide_body(bare, data, NOW)
    if taken:
        # The fast path is for plain dicts only.
        assert bare == parse_conversion(OrderedDict(data), now=NOW)
        assert bare.warnings() == parse_conversion(OrderedDict(data), now=NOW).warnings()


def test_the_short_way_takes_what_most_shops_send() -> None:
    for plain in (
        sale("o-1"),
        {**sale("o-2"), "createdAt": "2026-01-01T00:00:00+01:00", "couponCodes": ["A"], "revenueOriginId": "r"},
        {**sale("o-3"), "customerId": None, "customParams": {"advS1": "", "advS2": None, "advS3": "x"}},
        {"conversionTypeCode": "lead", "cid": "abc"},
    ):
        assert fill_from_guide_body(Conversion.__new__(Conversion), plain, NOW)


secrets = st.text(st.sampled_from("qxzjkw@"), min_size=12, max_size=20)


@given(secret=secrets, around=st.sampled_from(["{}\n", "{}\x00", "\ud800{}", "{}" + "!" * 1100, "%7B{}", "{}"]))
@pytest.mark.parametrize("field", [key for key in KEYS if key not in ("x", "amount.value", "currency.code")])
def test_no_message_repeats_a_value(field: str, secret: str, around: str) -> None:
    value = around.replace("{}", secret)
    for data in (
        {field: value},
        {field: [value]},
        {field: {"value": value, "code": value, "advS1": value, "unknown": value}},
    ):
        with pytest.raises(ConversionInvalid) as refused:
            parse_conversion(data | {"qualified": "no"} if field != "qualified" else data)
        assert secret not in str(refused.value) + repr(refused.value)
