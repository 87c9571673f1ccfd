"""The bytes that leave are the guide's, and the fingerprint is stable."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from trackdesk_producer.conversion.model import parse_conversion, parse_query
from trackdesk_producer.conversion.wire import fingerprint, post_body, query_string

CID = "6f1c6c3e-58e2-4bd5-9b0f-3f1d8a2c7e10"
SALE: dict[str, Any] = {"conversionTypeCode": "sale", "cid": CID}
ORIGIN = {"revenueOriginId": "o-1"}
HEAD = f'{{"conversionTypeCode":"sale","cid":"{CID}"'
START = f"conversionTypeCode=sale&cid={CID}"

GUIDE = {
    # id: (added to a sale, POST body, GET query)
    "a lead or sale": ({}, HEAD + "}", START),
    "amount": ({"amount": "100.50"}, HEAD + ',"amount":{"value":"100.50"}}', START + "&amount.value=100.50"),
    "amount without fraction": (
        {"amount": {"value": "100"}}, HEAD + ',"amount":{"value":"100"}}', START + "&amount.value=100",
    ),
    "currency": (
        {"currency": "EUR", "amount": "100.50"},
        HEAD + ',"amount":{"value":"100.50"},"currency":{"code":"EUR"}}',
        START + "&amount.value=100.50&currency.code=EUR",
    ),
    "externalId": (
        {"externalId": "order 1/ä"},
        HEAD + ',"externalId":"order 1/ä"}',
        START + "&externalId=order%201%2F%C3%A4",
    ),
    "customerId": (
        {"customerId": "a+b@example.com"},
        HEAD + ',"customerId":"a+b@example.com"}',
        START + "&customerId=a%2Bb%40example.com",
    ),
    "customParams": (
        {"customParams": {"advS5": "-._~", "advS1": "VALUE", "advS3": 'say "hi" \\'}},
        HEAD + ',"customParams":{"advS1":"VALUE","advS3":"say \\"hi\\" \\\\","advS5":"-._~"}}',
        START
        + "&customParams.advS1=VALUE&customParams.advS3=say%20%22hi%22%20%5C&customParams.advS5=-._~",
    ),
    "status": (
        {"status": "CONVERSION_STATUS_PENDING"},
        HEAD + ',"status":"CONVERSION_STATUS_PENDING"}',
        START + "&status=CONVERSION_STATUS_PENDING",
    ),
    "createdAt": (
        {"createdAt": "2026-01-31T19:30:00+01:00"},
        HEAD + ',"createdAt":"2026-01-31T18:30:00Z"}',
        START + "&createdAt=2026-01-31T18%3A30%3A00Z",
    ),
    "createdAt with a fraction": (
        {"createdAt": "2026-01-31T18:30:00.25Z"},
        HEAD + ',"createdAt":"2026-01-31T18:30:00.250000Z"}',
        START + "&createdAt=2026-01-31T18%3A30%3A00.250000Z",
    ),
    "couponCodes": (
        {"couponCodes": ["A", "B&C"], **ORIGIN},
        HEAD + ',"couponCodes":["A","B&C"],"revenueOriginId":"o-1"}',
        START + "&couponCodes=A&couponCodes=B%26C&revenueOriginId=o-1",
    ),
    "qualified": ({"qualified": True}, HEAD + ',"qualified":true}', START + "&qualified=true"),
    "not qualified": ({"qualified": False}, HEAD + ',"qualified":false}', START + "&qualified=false"),
}  # fmt: skip


@pytest.mark.parametrize(("added", "body", "_query"), GUIDE.values(), ids=GUIDE)
def test_the_post_body_equals_the_guide_byte_by_byte(added: dict[str, Any], body: str, _query: str) -> None:
    assert post_body(parse_conversion(SALE | added)) == body.encode()


@pytest.mark.parametrize(("added", "_body", "query"), GUIDE.values(), ids=GUIDE)
def test_the_get_query_equals_the_guide_byte_by_byte(added: dict[str, Any], _body: str, query: str) -> None:
    assert query_string(json.loads(post_body(parse_conversion(SALE | added)))) == query


@pytest.mark.parametrize("name", ["externalCid", "externalClientId"])
def test_an_alternative_click_id_takes_the_place_of_the_cid(name: str) -> None:
    sale = parse_conversion({"conversionTypeCode": "sale", name: "c-1", **ORIGIN})
    assert post_body(sale).decode() == f'{{"conversionTypeCode":"sale","{name}":"c-1","revenueOriginId":"o-1"}}'
    assert query_string(json.loads(post_body(sale))) == f"conversionTypeCode=sale&{name}=c-1&revenueOriginId=o-1"


FULL: dict[str, Any] = {
    "qualified": True,
    "revenueOriginId": "origin-1",
    "couponCodes": ["SPRING", "VIP"],
    "createdAt": "2026-01-31T18:30:00Z",
    "status": "CONVERSION_STATUS_APPROVED",
    "customParams": {"advS2": "two", "advS1": "one", "advS3": "three", "advS4": "four", "advS5": "five"},
    "customerId": "customer-1",
    "externalId": "order-1",
    "currency": {"code": "EUR"},
    "amount": {"value": "100.50"},
    "cid": CID,
    "conversionTypeCode": "sale",
}


def test_the_order_of_the_guide_does_not_depend_on_the_order_of_the_input() -> None:
    body = post_body(parse_conversion(FULL))
    assert body.decode() == (
        f'{{"conversionTypeCode":"sale","cid":"{CID}","amount":{{"value":"100.50"}},"currency":{{"code":"EUR"}},'
        '"externalId":"order-1","customerId":"customer-1","customParams":{"advS1":"one","advS2":"two",'
        '"advS3":"three","advS4":"four","advS5":"five"},"status":"CONVERSION_STATUS_APPROVED",'
        '"createdAt":"2026-01-31T18:30:00Z","couponCodes":["SPRING","VIP"],"revenueOriginId":"origin-1",'
        '"qualified":true}'
    )
    assert query_string(json.loads(body)) == (
        f"conversionTypeCode=sale&cid={CID}&amount.value=100.50&currency.code=EUR&externalId=order-1"
        "&customerId=customer-1&customParams.advS1=one&customParams.advS2=two&customParams.advS3=three"
        "&customParams.advS4=four&customParams.advS5=five&status=CONVERSION_STATUS_APPROVED"
        "&createdAt=2026-01-31T18%3A30%3A00Z&couponCodes=SPRING&couponCodes=VIP&revenueOriginId=origin-1"
        "&qualified=true"
    )


@pytest.mark.parametrize("value", [1, 1.5, None, object()])
def test_a_query_of_anything_but_text_lists_and_booleans_is_an_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"^amount\.value is "):
        query_string({"amount": {"value": value}})


def test_the_fingerprint_of_a_known_conversion_never_changes() -> None:
    assert fingerprint(parse_conversion(FULL)) == "fDgMkp-Yq1lpBy7h"
    assert fingerprint(parse_conversion(SALE)) == "dIc4UbTRiyEwgylB"


SAME = {
    "amount with zeros": {"amount": "0100.500"},
    "time with another offset": {"createdAt": "2026-01-31T20:30:00+02:00"},
    "time as a datetime": {"createdAt": datetime(2026, 1, 31, 18, 30, tzinfo=UTC)},
    "another externalId": {"externalId": "order-2"},
    "no externalId": {"externalId": None},
}


@pytest.mark.parametrize("changed", SAME.values(), ids=SAME)
def test_the_fingerprint_is_equal_for_equal_content(changed: dict[str, Any]) -> None:
    assert fingerprint(parse_conversion(FULL | changed)) == fingerprint(parse_conversion(FULL))


@pytest.mark.parametrize(("one", "other"), [("100", "100.00"), ("0", "0.000"), ("0.5", "00.50")])
def test_the_fingerprint_takes_amounts_as_decimals(one: str, other: str) -> None:
    assert fingerprint(parse_conversion(SALE | {"amount": one})) == fingerprint(
        parse_conversion(SALE | {"amount": other})
    )


OTHER: dict[str, Any] = {
    "conversionTypeCode": "lead",
    "cid": "6f1c6c3e-58e2-4bd5-9b0f-3f1d8a2c7e11",
    "amount": "1005.0",
    "currency": "USD",
    "customerId": "customer-2",
    "customParams": {"advS1": "one"},
    "status": "CONVERSION_STATUS_TEST",
    "createdAt": "2026-01-31T18:30:01Z",
    "couponCodes": ["VIP", "SPRING"],
    "revenueOriginId": "origin-2",
    "qualified": False,
}


def test_every_field_but_the_external_id_is_in_the_fingerprint() -> None:
    assert set(OTHER) | {"externalId"} == set(FULL)


@pytest.mark.parametrize("field", OTHER)
def test_the_fingerprint_differs_for_another(field: str) -> None:
    assert fingerprint(parse_conversion(FULL | {field: OTHER[field]})) != fingerprint(parse_conversion(FULL))


@pytest.mark.parametrize("field", sorted(set(OTHER) - {"conversionTypeCode", "cid", "revenueOriginId"}))
def test_the_fingerprint_differs_without(field: str) -> None:
    assert fingerprint(parse_conversion(FULL | {field: None})) != fingerprint(parse_conversion(FULL))


def test_the_fingerprint_keeps_click_ids_of_different_kinds_apart() -> None:
    prints = {
        fingerprint(parse_query({"conversionTypeCode": "sale", name: "x", **ORIGIN}))
        for name in ("cid", "externalCid", "externalClientId")
    }
    assert len(prints) == 3
