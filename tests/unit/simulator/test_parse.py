"""Requests are read as loosely as a gRPC gateway reads them."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.simulator import sale
from trackdesk_simulator.parse import ParsedConversion, UnreadableError, parse_body, parse_query


def read(**changes: Any) -> ParsedConversion:
    return parse_body(json.dumps(sale("o-1", **changes)).encode())


def test_every_field_is_read_from_a_post_body() -> None:
    parsed = read(
        customerId="c-1",
        customParams={"advS1": "a", "advS5": "ž"},
        status="CONVERSION_STATUS_ON_HOLD",
        createdAt="2026-01-02T03:04:05Z",
        couponCodes=["X", "Y"],
        revenueOriginId="r-1",
        qualified=True,
    )
    assert parsed == ParsedConversion(
        type_code="sale",
        cid="7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11",
        external_cid="",
        external_client_id="",
        amount=Decimal("100.50"),
        currency="EUR",
        external_id="o-1",
        customer_id="c-1",
        custom_params=(("advS1", "a"), ("advS5", "ž")),
        status="CONVERSION_STATUS_ON_HOLD",
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        coupon_codes=("X", "Y"),
        revenue_origin_id="r-1",
        qualified=True,
    )


def test_a_get_query_reads_the_same_as_a_post_body() -> None:
    query = urlencode(
        [
            ("conversionTypeCode", "sale"),
            ("cid", "7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11"),
            ("amount.value", "100.50"),
            ("currency.code", "EUR"),
            ("externalId", "o 1&ž"),
            ("customParams.advS2", "b"),
            ("couponCodes", "X"),
            ("couponCodes", "Y"),
            ("revenueOriginId", "r"),
            ("qualified", "false"),
        ]
    )
    body = sale(
        "o 1&ž",
        customParams={"advS2": "b"},
        couponCodes=["X", "Y"],
        revenueOriginId="r",
        qualified=False,
    )
    assert parse_query(query) == parse_body(json.dumps(body).encode())


def test_unknown_fields_are_dropped_silently() -> None:
    assert read(externalid="typo", extra={"deep": [1]}) == read()
    assert parse_query("conversionTypeCode=sale&extra=1&extra=2").type_code == "sale"


@pytest.mark.parametrize("status", ["CONVERSION_STATUS_APROVED", "PENDING", "CONVERSION_STATUS_UNSPECIFIED", ""])
def test_an_unknown_status_becomes_approved(status: str) -> None:
    assert read(status=status).status == "CONVERSION_STATUS_APPROVED"


def test_null_and_empty_mean_absent() -> None:
    parsed = parse_body(b'{"conversionTypeCode":"sale","cid":null,"amount":null,"externalId":""}')
    assert (parsed.cid, parsed.amount, parsed.external_id) == ("", None, "")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": {"value": 100.5}}, "amount.value"),
        ({"currency": {"code": 978}}, "currency.code"),
        ({"externalId": 7}, "externalId"),
        ({"cid": True}, "cid"),
        ({"status": 1}, "status"),
        ({"customParams": {"advS1": 1}}, "customParams.advS1"),
        ({"couponCodes": [1]}, "couponCodes"),
        ({"qualified": "yes"}, "qualified"),
        ({"createdAt": "yesterday"}, "createdAt"),
        ({"createdAt": "2026-01-02T03:04:05"}, "createdAt"),
        ({"createdAt": "2026-01-02"}, "createdAt"),
        ({"amount": "100"}, "amount"),
        ({"amount": {"value": "1,50"}}, "amount.value"),
        ({"amount": {"value": "NaN"}}, "amount.value"),
        ({"amount": {"value": "9" * 65}}, "amount.value"),
        ({"externalId": "x" * 256}, "externalId"),
        ({"customerId": "x" * 256}, "customerId"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(UnreadableError, match=field):
        read(**changes)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 50_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_body(body)


@pytest.mark.parametrize(
    "query", ["cid=a&cid=b", "externalId=%ff", "&".join(f"x{i}=1" for i in range(300)), "qualified=maybe"]
)
def test_a_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(UnreadableError):
        parse_query(query)
