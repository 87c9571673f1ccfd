"""The business decision, rule by rule."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.support.simulator import sale
from trackdesk_simulator.config import TenantConfig
from trackdesk_simulator.parse import parse_body
from trackdesk_simulator.problems import BusinessError
from trackdesk_simulator.rules import Acceptance, Refusal, judge

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
EXTERNAL = {"cid": None, "revenueOriginId": "r"}


class Books:
    def __init__(self, *recorded: tuple[str, str, str], origin: str = "") -> None:
        self._ids = {(kind, external_id) for kind, external_id, _ in recorded}
        self._origin = origin
        self._clicks = Counter((kind, source) for kind, _, source in recorded)

    def has(self, type_code: str, external_id: str, revenue_origin_id: str | None = None) -> bool:
        return (type_code, external_id) in self._ids and revenue_origin_id in (None, self._origin)

    def for_click(self, type_code: str, source: str) -> int:
        return self._clicks[type_code, source]


def verdict(
    *recorded: tuple[str, str, str], now: float = NOW, settings: dict[str, Any] | None = None, **changes: Any
) -> Acceptance | BusinessError:
    config = TenantConfig.model_validate(settings or {})
    conversion = parse_body(json.dumps(sale("o-1", **changes)).encode())
    result = judge(conversion, config, Books(*recorded), now=now, opened_at=NOW)
    return result.problem if isinstance(result, Refusal) else result


def test_a_good_sale_is_accepted_for_its_click() -> None:
    assert verdict(cid="c-1") == Acceptance("c-1", paired=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"conversionTypeCode": " "},
        {"cid": None},
        {"externalCid": "e", "revenueOriginId": "r"},
        {"cid": None, "externalCid": "e"},
        {"couponCodes": ["X"]},
        {"createdAt": "2026-01-01T00:00:01Z"},
    ],
)
def test_an_incomplete_conversion_is_an_invalid_argument(changes: dict[str, Any]) -> None:
    assert verdict(**changes) is BusinessError.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"conversionTypeCode": "refund"}, BusinessError.TYPE_NOT_FOUND),
        ({"conversionTypeCode": "later"}, BusinessError.TYPE_NOT_CONFIGURED),
        ({"conversionTypeCode": "free"}, BusinessError.PRICING_NOT_CONFIGURED),
        ({"cid": "unknown-1"}, BusinessError.SOURCE_NOT_FOUND),
        (EXTERNAL | {"externalCid": "unknown-1"}, BusinessError.EXTERNAL_CID_NOT_FOUND),
        (EXTERNAL | {"externalClientId": "unknown-1"}, BusinessError.CLIENT_NOT_FOUND),
        ({"cid": "expired-1"}, BusinessError.SOURCE_EXPIRED),
        ({"cid": "blocked-1"}, BusinessError.SOURCE_BLOCKED),
        ({"cid": "inactive-1"}, BusinessError.OFFER_NOT_ACTIVE),
        ({"amount": None}, BusinessError.AMOUNT_MISSING),
        ({"currency": {"code": "XAU"}}, BusinessError.CURRENCY_NOT_CONFIGURED),
    ],
)
def test_each_documented_refusal(changes: dict[str, Any], problem: BusinessError) -> None:
    types = {"sale": {}, "later": {"configured": False}, "free": {"priced": False}}
    assert verdict(settings={"types": types, "currencies": ["EUR"]}, **changes) is problem


def test_a_fixed_type_needs_no_amount_and_an_absent_currency_is_fine() -> None:
    assert isinstance(verdict(conversionTypeCode="lead", amount=None, currency=None), Acceptance)
    assert isinstance(verdict(settings={"currencies": ["USD"]}, currency=None), Acceptance)


def test_an_unpaired_click_is_accepted_without_a_pair() -> None:
    assert verdict(cid="unpaired-1") == Acceptance("unpaired-1", paired=False)


def test_an_exact_click_wins_over_a_prefix_and_the_longest_prefix_over_a_shorter_one() -> None:
    settings = {"clicks": {"a*": "blocked", "ab*": "expired", "abc": "known"}}
    assert verdict(settings=settings, cid="ax") is BusinessError.SOURCE_BLOCKED
    assert verdict(settings=settings, cid="abx") is BusinessError.SOURCE_EXPIRED
    assert isinstance(verdict(settings=settings, cid="abc"), Acceptance)


def test_clicks_that_are_not_listed_can_be_unknown() -> None:
    settings = {"unlisted_click": "unknown", "clicks": {"c-1": "known"}}
    assert verdict(settings=settings, cid="c-2") is BusinessError.SOURCE_NOT_FOUND
    assert isinstance(verdict(settings=settings, cid="c-1"), Acceptance)


def test_a_repeat_is_refused_by_type_and_external_id() -> None:
    assert verdict(("sale", "o-1", "c-9")) is BusinessError.ALREADY_EXISTS
    assert isinstance(verdict(("lead", "o-1", "c-9")), Acceptance)
    assert isinstance(verdict(("sale", "o-1", "c-9"), externalId=None), Acceptance)
    assert isinstance(verdict(("sale", "o-1", "c-9"), settings={"dedupe": False}), Acceptance)


def test_a_non_recurrent_type_takes_one_order_a_click() -> None:
    settings = {"types": {"sale": {"recurrent": False}}}
    assert verdict(("sale", "o-0", "c-1"), settings=settings, cid="c-1") is BusinessError.NOT_RECURRENT
    assert isinstance(verdict(("sale", "o-0", "c-2"), settings=settings, cid="c-1"), Acceptance)


def test_a_limit_a_click_refuses_what_is_above_it_but_a_repeat_exists_already() -> None:
    settings = {"types": {"sale": {"limit_per_click": 1}}}
    assert verdict(("sale", "o-0", "c-1"), settings=settings, cid="c-1") is BusinessError.LIMIT_REACHED
    assert verdict(("sale", "o-1", "c-1"), settings=settings, cid="c-1") is BusinessError.ALREADY_EXISTS


def test_the_attribution_window_ends_by_arrival_or_by_created_at() -> None:
    settings = {"attribution_window_s": 3_600}
    late: dict[str, Any] = {"now": NOW + 3_601, "createdAt": "2026-01-01T00:30:00Z"}
    assert isinstance(verdict(settings=settings, now=NOW + 3_600), Acceptance)
    assert verdict(settings=settings, **late) is BusinessError.SOURCE_EXPIRED
    by_created_at = settings | {"expiry_by_created_at": True}
    assert isinstance(verdict(settings=by_created_at, **late), Acceptance)


def test_a_click_with_a_time_dates_from_it() -> None:
    clicks = {"c-1": {"clicked_at": "2025-12-31T22:00:00Z"}}
    settings = {"attribution_window_s": 3_600, "clicks": clicks}
    assert verdict(settings=settings, cid="c-1") is BusinessError.SOURCE_EXPIRED
