"""The forms a conversion may come in all lead to the same value."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pydantic
import pytest

from trackdesk_producer import EnqueueItem
from trackdesk_producer.conversion.model import (
    Conversion,
    ConversionStatus,
    CustomParams,
    parse_conversion,
    parse_query,
)
from trackdesk_producer.errors import ConversionInvalid, Problem, QueueUnavailable

CID = "6f1c6c3e-58e2-4bd5-9b0f-3f1d8a2c7e10"
BODY: dict[str, Any] = {
    "conversionTypeCode": "sale",
    "cid": CID,
    "amount": {"value": "100.50"},
    "currency": {"code": "EUR"},
    "externalId": "order-1",
    "customerId": "customer-1",
    "customParams": {"advS1": "one", "advS5": "five"},
    "status": "CONVERSION_STATUS_PENDING",
    "createdAt": "2026-01-31T19:30:00+01:00",
    "couponCodes": ["A", "B"],
    "revenueOriginId": "origin-1",
    "qualified": False,
}
PYTHON: dict[str, Any] = {
    "conversion_type_code": "sale",
    "cid": CID,
    "amount": "100.50",
    "currency": "EUR",
    "external_id": "order-1",
    "customer_id": "customer-1",
    "custom_params": {"adv_s1": "one", "adv_s5": "five"},
    "status": ConversionStatus.PENDING,
    "created_at": datetime(2026, 1, 31, 19, 30, tzinfo=timezone(timedelta(hours=1))),
    "coupon_codes": ("A", "B"),
    "revenue_origin_id": "origin-1",
    "qualified": False,
}
QUERY: dict[str, str | list[str]] = {
    "conversionTypeCode": "sale",
    "cid": CID,
    "amount.value": "100.50",
    "currency.code": "EUR",
    "externalId": "order-1",
    "customerId": "customer-1",
    "customParams.advS1": "one",
    "customParams.advS5": "five",
    "status": "CONVERSION_STATUS_PENDING",
    "createdAt": "2026-01-31T19:30:00+01:00",
    "couponCodes": ["A", "B"],
    "revenueOriginId": "origin-1",
    "qualified": "false",
}


@pytest.mark.parametrize(
    "made",
    [
        lambda: parse_conversion(PYTHON),
        lambda: parse_query(QUERY),
        lambda: Conversion(**PYTHON),
        lambda: Conversion(**BODY),
        lambda: Conversion.model_validate(BODY),
        lambda: parse_conversion(PYTHON | {"custom_params": CustomParams(adv_s1="one", adv_s5="five")}),
        lambda: parse_conversion(PYTHON | {"amount": {"value": "100.50"}, "currency": {"code": "EUR"}}),
        lambda: pickle.loads(pickle.dumps(parse_conversion(BODY))),
        lambda: copy.deepcopy(parse_conversion(BODY)),
        lambda: parse_conversion(parse_conversion(BODY).model_dump(exclude_none=True)),
        lambda: parse_conversion(parse_conversion(BODY).model_dump(by_alias=True)),
    ],
    ids=[
        "Python names", "GET names", "constructor", "constructor with wire names", "model_validate",
        "CustomParams", "nested money", "pickle", "deepcopy", "dump", "dump by alias",
    ],
)  # fmt: skip
def test_all_forms_of_the_same_content_are_equal(made: Any) -> None:
    assert made() == parse_conversion(BODY)


def test_the_attributes_are_plain_values() -> None:
    sale = parse_conversion(BODY)
    assert (sale.amount, sale.currency) == ("100.50", "EUR")
    assert sale.created_at == datetime(2026, 1, 31, 18, 30, tzinfo=UTC)
    assert sale.coupon_codes == ("A", "B")
    assert sale.custom_params is not None
    assert sale.custom_params.adv_s1 == "one"
    assert sale.status is ConversionStatus.PENDING


def test_a_conversion_is_returned_as_it_is() -> None:
    sale = parse_conversion(BODY)
    assert parse_conversion(sale) is sale


def test_a_conversion_cannot_be_changed() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        parse_conversion(BODY).amount = "1"


def test_equal_conversions_have_equal_hashes() -> None:
    assert len({parse_conversion(BODY), parse_conversion(PYTHON)}) == 1


def test_repr_shows_no_personal_data() -> None:
    sale = parse_conversion(BODY | {"customerId": "erika", "customParams": {"advS1": "mustermann"}})
    assert "erika" not in repr(sale) + str(sale)
    assert "mustermann" not in repr(sale) + repr(sale.custom_params)


@pytest.mark.parametrize("name", ["cid", "externalCid", "externalClientId"])
def test_repr_shows_no_click_id(name: str) -> None:
    secret = "0f0f0f0f-1111-4222-8333-444455556666"
    body = {"conversionTypeCode": "sale", name: secret, "revenueOriginId": "origin-1"}
    sale = parse_conversion(body)
    for shown in (sale, [sale], EnqueueItem(sale), EnqueueItem(body)):
        assert secret not in repr(shown) + str(shown)


def test_custom_params_are_checked_with_the_conversion_they_enter() -> None:
    with pytest.raises(ConversionInvalid, match=r"^customParams\.advS2 must not contain control"):
        Conversion(conversion_type_code="sale", cid=CID, custom_params=CustomParams(adv_s2="a\x00"))


def test_a_foreign_model_reports_our_sentences() -> None:
    class Order(pydantic.BaseModel):
        conversion: Conversion

    with pytest.raises(pydantic.ValidationError, match="cid must be given, or externalCid"):
        Order.model_validate({"conversion": {"conversionTypeCode": "sale"}})


def test_with_external_id_changes_nothing_else() -> None:
    plain = parse_conversion({name: value for name, value in BODY.items() if name != "externalId"})
    assert plain.external_id is None
    assert plain.with_external_id("order-1") == parse_conversion(BODY)
    assert plain.external_id is None


@pytest.mark.parametrize("bad", ["", " ", "x" * 256, "a\nb", 5, None, "\udc00", "OUR_CID"])
def test_with_external_id_refuses_what_the_field_refuses(bad: Any) -> None:
    with pytest.raises(ConversionInvalid, match=r"^externalId "):
        parse_conversion(BODY).with_external_id(bad)


def query_problems(params: Any) -> list[str]:
    with pytest.raises(ConversionInvalid) as refused:
        parse_query(params)
    return [problem.field for problem in refused.value.problems]


SALE: dict[str, Any] = {"conversionTypeCode": "sale", "cid": CID}


def test_empty_values_of_a_query_count_as_absent() -> None:
    empty = dict.fromkeys(QUERY, "") | SALE
    assert parse_query(empty) == parse_query(SALE)


def test_lists_of_one_are_read_as_parse_qs_gives_them() -> None:
    assert parse_query({name: [value] for name, value in SALE.items()}) == parse_query(SALE)


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("false", False), ("TRUE", True)])
def test_qualified_is_true_or_false_in_a_query(text: str, expected: bool) -> None:
    assert parse_query(SALE | {"qualified": text}).qualified is expected


@pytest.mark.parametrize(
    ("added", "field"),
    [
        ({"qualified": "1"}, "qualified"),
        ({"qualified": "yes"}, "qualified"),
        ({"cid": ["a", "b"]}, "cid"),
        ({"customParams.advS1": ["a", "b"]}, "customParams.advS1"),
        ({"customParams.advS6": "x"}, "customParams.advS6"),
        ({"customParams": "x"}, "customParams"),
        ({"amountValue": "1"}, "amountValue"),
        ({"amount.value": "1,5"}, "amount.value"),
        ({"customParams.advS3": "\x02"}, "customParams.advS3"),
        ({None: ["left", "over"]}, "conversion"),
        ({"couponCodes": "A"}, "revenueOriginId"),
        ({"externalId": "1", "external_id": "2"}, "externalId"),
    ],
)
def test_a_query_is_refused_by_name(added: Any, field: str) -> None:
    assert query_problems(SALE | added) == [field]


def test_a_query_that_is_no_mapping_is_refused() -> None:
    assert query_problems("conversionTypeCode=sale") == ["conversion"]


def test_a_misnamed_query_parameter_gets_a_hint() -> None:
    with pytest.raises(ConversionInvalid, match=r"did you mean amount\.value\?"):
        parse_query(SALE | {"amount-value": "1"})
    with pytest.raises(ConversionInvalid, match=r"write customParams\.advS1"):
        parse_query(SALE | {"advS1": "x"})


@pytest.mark.parametrize(
    "error",
    [
        ConversionInvalid([Problem("cid", "must be given", "send it")]),
        QueueUnavailable("the store did not answer within 1 s", external_id="order-1"),
    ],
)
def test_errors_survive_pickling(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))


def test_an_unavailable_queue_says_that_repeating_is_safe() -> None:
    assert str(QueueUnavailable("no answer")) == "no answer; repeating the call is safe"
    said = str(QueueUnavailable("no answer", external_id="order-1"))
    assert said == "no answer; repeating the call with the same externalId is safe"
