"""Each rule of the contract refuses what it must, names the wire field, and says what to do."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from trackdesk_producer.conversion.model import Conversion, ConversionStatus, parse_conversion
from trackdesk_producer.errors import ConversionInvalid, ProducerError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SALE = {"conversionTypeCode": "sale", "cid": "6f1c6c3e-58e2-4bd5-9b0f-3f1d8a2c7e10"}
ORIGIN = {"revenueOriginId": "origin-1"}


def problems_of(data: Any) -> dict[str, str]:
    with pytest.raises(ConversionInvalid) as refused:
        parse_conversion(data, now=NOW)
    return {problem.field: f"{problem.rule}: {problem.remedy}" for problem in refused.value.problems}


REFUSED = {
    # id: (what is added to a valid sale, the field named, words of the message)
    "unknown key": ({"note": "x"}, "note", "not a field"),
    "unknown key near a known one": ({"curency": "EUR"}, "curency", "did you mean currency?"),
    "known key in another spelling": ({"external-id": "1"}, "external-id", "did you mean externalId?"),
    "GET name in a body": ({"amount.value": "1"}, "amount.value", '"amount": {"value": "100.50"}'),
    "custom parameter outside its object": ({"advS2": "x"}, "advS2", '"customParams": {"advS2": "text"}'),
    "key that is no text": ({7: "x"}, "conversion", "got a whole number"),
    "field in both spellings": ({"externalId": "1", "external_id": "1"}, "externalId", "given once"),
    "blank type": ({"conversionTypeCode": " "}, "conversionTypeCode", "blank"),
    "empty type": ({"conversionTypeCode": ""}, "conversionTypeCode", "blank"),
    "type of 1,025 characters": ({"conversionTypeCode": "t" * 1025}, "conversionTypeCode", "at most 1024"),
    "type that is a number": ({"conversionTypeCode": 7}, "conversionTypeCode", "must be text (got a whole"),
    "type of the guide": ({"conversionTypeCode": "SELECTED_CONVERSION_TYPE"}, "conversionTypeCode", "placeholder"),
    "blank cid": ({"cid": ""}, "cid", "blank"),
    "cid of 1,025 characters": ({"cid": "c" * 1025}, "cid", "at most 1024"),
    "cid that is bytes": ({"cid": b"abc"}, "cid", "must be text"),
    "cid of the guide": ({"cid": "OUR_CID"}, "cid", "placeholder"),
    "cid of the guide's template": ({"cid": "{cid}"}, "cid", "placeholder"),
    "cid that is the cookie": ({"cid": '{"cid":"6f1c"}'}, "cid", "whole cookie"),
    "cid that is the encoded cookie": ({"cid": "%7B%22cid%22"}, "cid", "whole cookie"),
    "cid that is the encoded cookie in lower case": ({"cid": "%7b%22cid%22"}, "cid", "whole cookie"),
    "two click ids": ({"externalCid": "x", **ORIGIN}, "cid", "externalCid came with it"),
    "three click ids": (
        {"externalCid": "x", "externalClientId": "y", **ORIGIN}, "cid", "externalCid and externalClientId",
    ),
    "externalCid without origin": ({"cid": None, "externalCid": "x"}, "revenueOriginId", "with externalCid"),
    "externalClientId without origin": (
        {"cid": None, "externalClientId": "x"}, "revenueOriginId", "with externalClientId",
    ),
    "coupons without origin": ({"couponCodes": ["A"]}, "revenueOriginId", "with couponCodes"),
    "blank origin": ({"revenueOriginId": " "}, "revenueOriginId", "blank"),
    "amount that is a float": ({"amount": 100.5}, "amount.value", 'as text, "amount": "100.50"'),
    "amount that is an integer": ({"amount": {"value": 100}}, "amount.value", "got a whole number"),
    "amount that is a Decimal": ({"amount": Decimal("1.5")}, "amount.value", "type Decimal"),
    "amount that is true": ({"amount": True}, "amount.value", "got a boolean"),
    "amount that is a list": ({"amount": ["1"]}, "amount.value", "got a list of 1 entry"),
    "empty amount": ({"amount": ""}, "amount.value", "digits"),
    "amount with a sign": ({"amount": "-1"}, "amount.value", "no sign"),
    "amount with a plus": ({"amount": "+1"}, "amount.value", "no sign"),
    "amount with an exponent": ({"amount": "1e3"}, "amount.value", "digits"),
    "amount with a comma": ({"amount": "1,50"}, "amount.value", "no thousands mark"),
    "amount with a currency mark": ({"amount": "€5"}, "amount.value", "no currency"),
    "amount with a space": ({"amount": " 5"}, "amount.value", "digits"),
    "amount with a line feed": ({"amount": "5\n"}, "amount.value", "digits"),
    "amount without digits before the point": ({"amount": ".5"}, "amount.value", "digits"),
    "amount without digits after the point": ({"amount": "5."}, "amount.value", "digits"),
    "amount with two points": ({"amount": "1.2.3"}, "amount.value", "digits"),
    "amount in Arabic digits": ({"amount": "١٢"}, "amount.value", "digits"),
    "amount that is no number": ({"amount": "NaN"}, "amount.value", "digits"),
    "amount of 16 digits": ({"amount": "1" * 16}, "amount.value", "at most 15"),
    "amount of 10 decimals": ({"amount": "1." + "1" * 10}, "amount.value", "9 after it"),
    "amount of the guide": ({"amount": "AMOUNT_PLACEHOLDER"}, "amount.value", "placeholder"),
    "amount object without value": ({"amount": {}}, "amount.value", "must be given"),
    "amount object with another key": ({"amount": {"value": "1", "valeu": "2"}}, "amount.valeu", "did you mean"),
    "currency in lower case": ({"currency": "eur"}, "currency.code", "write EUR"),
    "currency nobody knows": ({"currency": "ZZZ"}, "currency.code", "ISO 4217"),
    "currency that means none": ({"currency": {"code": "XXX"}}, "currency.code", "leave the currency out"),
    "empty currency": ({"currency": ""}, "currency.code", "blank"),
    "currency that is a number": ({"currency": 978}, "currency.code", "must be text"),
    "currency object without code": ({"currency": {}}, "currency.code", "must be given"),
    "empty externalId": ({"externalId": ""}, "externalId", "blank"),
    "blank externalId": ({"externalId": " \u00a0"}, "externalId", "blank"),
    "externalId of 256 characters": ({"externalId": "x" * 256}, "externalId", "at most 255"),
    "externalId with a line feed": ({"externalId": "a\nb"}, "externalId", "position 2"),
    "externalId with DEL": ({"externalId": "a\x7f"}, "externalId", "control characters"),
    "externalId with a C1 control": ({"externalId": "\x85a"}, "externalId", "control characters"),
    "externalId with NUL": ({"externalId": "a\x00"}, "externalId", "control characters"),
    "externalId that is a number": ({"externalId": 100234}, "externalId", "as text, in quotes"),
    "externalId with a lone surrogate": ({"externalId": "a\ud800"}, "externalId", "lone surrogates"),
    "externalId of the guide": ({"externalId": "OUR_CID"}, "externalId", "placeholder"),
    "customerId of 256 characters": ({"customerId": "x" * 256}, "customerId", "at most 255"),
    "customerId with a tab": ({"customerId": "a\tb"}, "customerId", "control characters"),
    "customerId that is a number": ({"customerId": 5}, "customerId", "must be text"),
    "customerId that is bytes": ({"customerId": b"5"}, "customerId", "type bytes"),
    "sixth custom parameter": ({"customParams": {"advS6": "x"}}, "customParams.advS6", "advS1 to advS5"),
    "zeroth custom parameter": ({"customParams": {"advS0": "x"}}, "customParams.advS0", "advS1 to advS5"),
    "unknown custom parameter": ({"customParams": {"note": "x"}}, "customParams.note", "not a field"),
    "custom parameter that is a number": ({"customParams": {"advS1": 5}}, "customParams.advS1", "must be text"),
    "custom parameter with a control": ({"customParams": {"advS5": "\x01"}}, "customParams.advS5", "control"),
    "custom parameter of 1,025 characters": (
        {"customParams": {"advS3": "x" * 1025}}, "customParams.advS3", "at most 1024",
    ),
    "custom parameter in both spellings": (
        {"customParams": {"advS1": "x", "adv_s1": "y"}}, "customParams.advS1", "given once",
    ),
    "custom parameters that are text": ({"customParams": "x"}, "customParams", "must be an object"),
    "short status": ({"status": "APPROVED"}, "status", "write CONVERSION_STATUS_APPROVED"),
    "status with a space": ({"status": "on hold"}, "status", "write CONVERSION_STATUS_ON_HOLD"),
    "misspelt status": ({"status": "CONVERSION_STATUS_APROVED"}, "status", "write one of CONVERSION_STATUS_"),
    "status that says nothing": ({"status": "CONVERSION_STATUS_UNSPECIFIED"}, "status", "leave the status out"),
    "empty status": ({"status": ""}, "status", "one of"),
    "status that is a number": ({"status": 1}, "status", "got a whole number"),
    "createdAt without offset": ({"createdAt": "2026-01-31T18:30:00"}, "createdAt", "UTC offset"),
    "createdAt without time": ({"createdAt": "2026-01-31"}, "createdAt", "RFC 3339"),
    "createdAt without seconds": ({"createdAt": "2026-01-31T18:30Z"}, "createdAt", "RFC 3339"),
    "createdAt on February 30th": ({"createdAt": "2026-02-30T18:30:00Z"}, "createdAt", "RFC 3339"),
    "createdAt before the first year": ({"createdAt": "0001-01-01T00:00:00+23:59"}, "createdAt", "RFC 3339"),
    "createdAt that is a number": ({"createdAt": 1769884200}, "createdAt", "got a whole number"),
    "createdAt that is a naive datetime": (
        {"createdAt": datetime(2026, 1, 31)}, "createdAt", "got a time without offset",  # noqa: DTZ001
    ),
    "createdAt in the future": (
        {"createdAt": "2026-03-01T12:01:01Z"}, "createdAt", "61 seconds ahead of this machine's clock",
    ),
    "createdAt in the future by its offset": ({"createdAt": "2026-03-01T12:00:00-01:00"}, "createdAt", "future"),
    "coupons that are text": ({"couponCodes": "A", **ORIGIN}, "couponCodes", '["CODE"]'),
    "coupons in a set": ({"couponCodes": {"A"}, **ORIGIN}, "couponCodes", "must be a list"),
    "51 coupons": ({"couponCodes": ["A"] * 51, **ORIGIN}, "couponCodes", "at most 50"),
    "coupon that is blank": ({"couponCodes": ["A", " "], **ORIGIN}, "couponCodes[1]", "blank"),
    "coupon that is a number": ({"couponCodes": [5], **ORIGIN}, "couponCodes[0]", "must be text"),
    "qualified that is text": ({"qualified": "true"}, "qualified", "without quotes"),
    "qualified that is a number": ({"qualified": 1}, "qualified", "true or false"),
    "body over 16 KiB": (
        {"customParams": {f"advS{n}": "€" * 1024 for n in range(1, 6)}, "couponCodes": ["€" * 400], **ORIGIN},
        "conversion",
        "must fit into 16384 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("added", "field", "words"), REFUSED.values(), ids=REFUSED)
def test_the_contract_refuses(added: dict[Any, Any], field: str, words: str) -> None:
    problems = problems_of(SALE | added)
    assert list(problems) == [field]
    assert words in problems[field]


@pytest.mark.parametrize("data", [None, 5, "sale", [SALE], b"{}"], ids=lambda data: type(data).__name__)
def test_input_that_is_no_object_is_refused(data: object) -> None:
    assert list(problems_of(data)) == ["conversion"]


def test_an_empty_body_tells_both_things_that_every_sale_needs() -> None:
    assert list(problems_of({})) == ["conversionTypeCode", "cid"]


ACCEPTED = {
    "amount of 15 digits and 9 decimals": {"amount": "1" * 15 + "." + "1" * 9},
    "externalId of 255 characters": {"externalId": "€" * 255},
    "customerId of 255 characters": {"customerId": "x" * 255},
    "free text of 1,024 characters": {"customParams": {"advS1": "x" * 1024}},
    "emoji and right-to-left text": {"customParams": {"advS1": "👩‍👩‍👧 שלום"}},
    "50 coupons": {"couponCodes": ["A"] * 50, **ORIGIN},
    "createdAt one clock skew ahead": {"createdAt": "2026-03-01T12:01:00Z"},
    "createdAt in lower case": {"createdAt": "2026-01-31t18:30:00z"},
    "createdAt with nanoseconds": {"createdAt": "2026-01-31T18:30:00.123456789Z"},
    "createdAt as an aware datetime": {"createdAt": NOW - timedelta(days=1)},
    "origin that nothing needs": ORIGIN,
    "externalCid with origin": {"cid": None, "externalCid": "x", **ORIGIN},
    "externalClientId with origin": {"cid": None, "externalClientId": "x", **ORIGIN},
    "amount object with a null value": {"amount": {"value": None}},
}


@pytest.mark.parametrize("added", ACCEPTED.values(), ids=ACCEPTED)
def test_the_contract_accepts(added: dict[str, Any]) -> None:
    assert parse_conversion(SALE | added, now=NOW)


@pytest.mark.parametrize("status", list(ConversionStatus))
def test_every_status_but_unspecified_is_accepted(status: ConversionStatus) -> None:
    assert parse_conversion(SALE | {"status": status.value}).status is status


@pytest.mark.parametrize("empty", [None, ""], ids=["null", "empty text"])
@pytest.mark.parametrize("wrap", [lambda v: {"customerId": v}, lambda v: {"customParams": {"advS1": v}}])
def test_an_empty_optional_text_counts_as_absent(empty: str | None, wrap: Any) -> None:
    assert parse_conversion(SALE | wrap(empty)) == parse_conversion(SALE)


def test_every_problem_is_reported_at_once() -> None:
    bad = {
        "conversionTypeCode": "",
        "externalCid": 5,
        "cid": "OUR_CID",
        "amount": 5,
        "currency": "eur",
        "createdAt": "2999-01-01T00:00:00Z",
        "customParams": {"advS1": 1, "advS9": "x"},
        "couponCodes": [""],
        "quallified": True,
    }
    assert set(problems_of(bad)) == {
        "conversionTypeCode",
        "externalCid",
        "cid",
        "amount.value",
        "currency.code",
        "createdAt",
        "customParams.advS1",
        "customParams.advS9",
        "couponCodes[0]",
        "quallified",
        "revenueOriginId",
    }


def test_a_refused_click_id_still_counts_as_given() -> None:
    assert list(problems_of({"conversionTypeCode": "sale", "cid": 5})) == ["cid"]


def test_a_name_that_looks_like_data_is_not_repeated() -> None:
    assert "erika@example.com" not in str(problems_of(SALE | {"erika@example.com": "x"}))


def test_a_refusal_carries_no_trace_of_the_values() -> None:
    with pytest.raises(ConversionInvalid) as refused:
        parse_conversion(SALE | {"customerId": "erika@example.com\n"})
    error = refused.value
    assert "erika" not in f"{error!r}{error}{error.__context__!r}{error.__cause__!r}"


def test_a_refusal_is_a_value_error_of_the_producer() -> None:
    assert issubclass(ConversionInvalid, ValueError)
    assert issubclass(ConversionInvalid, ProducerError)


def test_a_message_of_many_problems_stays_readable() -> None:
    with pytest.raises(ConversionInvalid) as refused:
        parse_conversion(SALE | {f"key{n}": n for n in range(5000)})
    assert len(refused.value.problems) == 5000
    assert str(refused.value).endswith("and 4990 more problems")


def test_direct_construction_refuses_by_the_same_rules() -> None:
    with pytest.raises(ConversionInvalid, match="at most 15 before the point"):
        Conversion(conversion_type_code="sale", cid="6f1c", amount="1" * 16)


def test_direct_construction_compares_created_at_with_the_clock() -> None:
    with pytest.raises(ConversionInvalid, match="in the future"):
        Conversion(conversion_type_code="sale", cid="x", created_at=datetime.now(UTC) + timedelta(hours=1))
