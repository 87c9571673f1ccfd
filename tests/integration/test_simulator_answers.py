"""What the simulated Trackdesk answers over HTTP, and what it records."""

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import httpx
import pytest

from tests.support.simulator import sale, simulator
from trackdesk_simulator import BusinessError, ManualClock, RunningSimulator
from trackdesk_simulator.problems import DEFAULTS, GATEWAY_STATUS


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as opened:
        yield opened


@pytest.fixture
async def trackdesk() -> AsyncIterator[RunningSimulator]:
    async with simulator() as running:
        yield running


async def test_a_posted_sale_is_recorded_and_answered_with_its_cid(
    client: httpx.AsyncClient, trackdesk: RunningSimulator
) -> None:
    body = sale("o-1", createdAt="2026-01-02T03:04:05Z", status="CONVERSION_STATUS_TEST")
    response = await client.post(trackdesk.url("acme"), json=body)
    assert (response.status_code, response.json()) == (200, {"cid": body["cid"]})
    assert response.headers["Content-Type"].startswith("application/json")
    (row,) = trackdesk.ledger.rows_for("acme", "o-1")
    assert (row.type_code, row.source, row.amount, row.currency, row.method) == (
        "sale",
        body["cid"],
        Decimal("100.50"),
        "EUR",
        "POST",
    )
    assert (row.status, row.created_at) == ("CONVERSION_STATUS_TEST", "2026-01-02T03:04:05+00:00")


async def test_a_get_with_dotted_names_is_recorded_the_same(
    client: httpx.AsyncClient, trackdesk: RunningSimulator
) -> None:
    params = {
        "conversionTypeCode": "sale",
        "cid": "c-1",
        "amount.value": "7.05",
        "currency.code": "CZK",
        "externalId": "o 1/ž",
    }
    response = await client.get(trackdesk.url("acme"), params=params)
    assert response.json() == {"cid": "c-1"}
    (row,) = trackdesk.ledger.rows_for("acme", "o 1/ž")
    assert (row.amount, row.currency, row.method) == (Decimal("7.05"), "CZK", "GET")


async def test_a_number_where_a_string_belongs_is_answered_400(
    client: httpx.AsyncClient, trackdesk: RunningSimulator
) -> None:
    response = await client.post(trackdesk.url("acme"), json=sale("o-1", amount={"value": 100.5}))
    assert response.status_code == 400
    assert response.json()["code"] == 3
    assert "amount.value" in response.json()["message"]
    assert trackdesk.ledger.count() == 0


async def test_a_typo_in_an_optional_field_is_swallowed(client: httpx.AsyncClient, trackdesk: RunningSimulator) -> None:
    body = sale("o-1", statuss="x", status="CONVERSION_STATUS_REJECTD")
    assert (await client.post(trackdesk.url("acme"), json=body)).status_code == 200
    assert trackdesk.ledger.rows[0].status == "CONVERSION_STATUS_APPROVED"


@pytest.mark.parametrize(
    "path",
    ["/", "/acme", "/tracking/conversion/v2", "/acme/tracking/conversion/v1/", "/Not_A_Label/tracking/conversion/v1"],
)
async def test_unknown_paths_are_answered_by_the_web_app(
    client: httpx.AsyncClient, trackdesk: RunningSimulator, path: str
) -> None:
    response = await client.post(trackdesk.origin + path, json=sale("o-1"))
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert "<html>" in response.text
    assert trackdesk.ledger.count() == 0


@pytest.mark.parametrize(
    ("host", "tenant"),
    [("acme.trackdesk.com", "acme"), ("Shop-2.localhost:8080", "shop-2"), ("127.0.0.1:99", "default")],
)
async def test_without_a_prefix_the_host_name_is_the_tenant(
    client: httpx.AsyncClient, trackdesk: RunningSimulator, host: str, tenant: str
) -> None:
    url = f"{trackdesk.origin}/tracking/conversion/v1"
    response = await client.post(url, json=sale("o-1"), headers={"Host": host})
    assert response.status_code == 200
    assert [row.tenant for row in trackdesk.ledger] == [tenant]


async def test_tenants_do_not_share_external_ids(client: httpx.AsyncClient, trackdesk: RunningSimulator) -> None:
    for tenant in ("a", "b"):
        assert (await client.post(trackdesk.url(tenant), json=sale("o-1"))).status_code == 200
    assert trackdesk.ledger.count() == 2


async def test_two_hundred_concurrent_posts_of_one_external_id_record_one_row(
    trackdesk: RunningSimulator,
) -> None:
    trackdesk.configure(latency_s=0.2)
    body = json.dumps(sale("o-1")).encode()
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post() -> int:
            async with session.post(trackdesk.url("acme"), data=body) as response:
                await response.read()
                return response.status

        statuses = await asyncio.gather(*(post() for _ in range(200)))
    assert sorted(statuses) == [200] + [409] * 199
    assert len(trackdesk.ledger.rows_for("acme", "o-1")) == 1
    assert trackdesk.ledger.duplicates[("acme", "sale", "o-1")] == 199
    assert trackdesk.stats.max_in_flight > 50
    assert trackdesk.stats.in_flight == 0


REFUSED: dict[BusinessError, dict[str, Any]] = {
    BusinessError.INVALID_ARGUMENT: {"cid": None},
    BusinessError.TYPE_NOT_FOUND: {"conversionTypeCode": "nonsense"},
    BusinessError.TYPE_NOT_CONFIGURED: {"conversionTypeCode": "later"},
    BusinessError.SOURCE_NOT_FOUND: {"cid": "unknown-1"},
    BusinessError.SOURCE_EXPIRED: {"cid": "expired-1"},
    BusinessError.OFFER_NOT_ACTIVE: {"cid": "inactive-1"},
    BusinessError.AMOUNT_MISSING: {"amount": None},
    BusinessError.CURRENCY_NOT_CONFIGURED: {"currency": {"code": "XAU"}},
    BusinessError.ALREADY_EXISTS: {"externalId": "first"},
}


@pytest.mark.parametrize("profile", ["gateway", "all-400", "all-500", "empty-body"])
async def test_each_profile_words_each_refusal_its_own_way(client: httpx.AsyncClient, profile: str) -> None:
    types = {"sale": {}, "later": {"configured": False}}
    async with simulator(profile=profile, types=types, currencies=["EUR"]) as trackdesk:
        url = trackdesk.url("acme")
        first = await client.post(url, json=sale("first"))
        assert first.status_code == 200
        assert first.json()["cid"]
        for problem, changes in REFUSED.items():
            response = await client.post(url, json=sale("o-1", **changes))
            code, message = DEFAULTS[problem]
            if profile == "empty-body":
                assert (response.status_code, response.content) == (GATEWAY_STATUS[code], b""), problem
                continue
            expected = {"gateway": GATEWAY_STATUS[code], "all-400": 400, "all-500": 500}[profile]
            assert (response.status_code, response.json()["code"]) == (expected, code), problem
            assert response.json()["details"] == []
            if problem is not BusinessError.INVALID_ARGUMENT:
                assert response.json()["message"] == message
        assert trackdesk.ledger.count() == 1


async def test_the_profile_switches_at_run_time(client: httpx.AsyncClient, trackdesk: RunningSimulator) -> None:
    seen = []
    for profile in ("gateway", "all-400", "all-500"):
        trackdesk.configure(profile=profile)
        seen.append((await client.post(trackdesk.url("acme"), json=sale("o", cid="unknown-1"))).status_code)
    assert seen == [404, 400, 500]


async def test_an_unpaired_click_is_recorded_and_answered_with_an_empty_cid(
    client: httpx.AsyncClient, trackdesk: RunningSimulator
) -> None:
    response = await client.post(trackdesk.url("acme"), json=sale("o-1", cid="unpaired-1"))
    assert (response.status_code, response.json()) == (200, {"cid": ""})
    assert trackdesk.ledger.count() == 1


async def test_other_methods_are_not_implemented(client: httpx.AsyncClient, trackdesk: RunningSimulator) -> None:
    response = await client.put(trackdesk.url("acme"), json=sale("o-1"))
    assert (response.status_code, response.json()["code"]) == (501, 12)


@pytest.mark.parametrize(
    ("settings", "key", "status"),
    [
        ({}, None, 200),
        ({}, "anything", 200),
        ({"key_mode": "required"}, None, 401),
        ({"key_mode": "required"}, "anything", 200),
        ({"key_mode": "required", "api_keys": ["right"]}, "wrong", 401),
        ({"key_mode": "required", "api_keys": ["right"]}, "right", 200),
        ({"key_mode": "revoked"}, "right", 403),
        ({"key_mode": "revoked"}, None, 403),
    ],
)
async def test_key_modes(client: httpx.AsyncClient, settings: dict[str, Any], key: str | None, status: int) -> None:
    async with simulator(**settings) as trackdesk:
        headers = {} if key is None else {"X-Api-Key": key}
        response = await client.post(trackdesk.url("acme"), json=sale("o-1"), headers=headers)
        assert response.status_code == status
        assert trackdesk.ledger.count() == (1 if status == 200 else 0)


async def test_a_body_above_the_bound_is_refused(client: httpx.AsyncClient) -> None:
    async with simulator(max_body_bytes=2_048) as trackdesk:
        response = await client.post(trackdesk.url("acme"), json=sale("o-1", extra="x" * 3_000))
        assert response.status_code == 413
        assert trackdesk.ledger.count() == 0
        assert trackdesk.stats.in_flight == 0


async def test_tenants_and_rows_above_the_bounds_are_not_kept(client: httpx.AsyncClient) -> None:
    async with simulator(max_tenants=1, max_rows=1) as trackdesk:
        assert (await client.post(trackdesk.url("a"), json=sale("o-1"))).status_code == 200
        assert (await client.post(trackdesk.url("a"), json=sale("o-2"))).status_code == 500
        assert "<html>" in (await client.post(trackdesk.url("b"), json=sale("o-1"))).text
        assert list(trackdesk.snapshot()["tenants"]) == ["a"]


async def test_the_window_of_a_click_ends_by_the_simulators_clock(client: httpx.AsyncClient) -> None:
    clock = ManualClock()
    async with simulator(clock=clock, attribution_window_s=3_600) as trackdesk:
        clock.advance(3_600)
        assert (await client.post(trackdesk.url("acme"), json=sale("o-1"))).status_code == 200
        clock.advance(1)
        response = await client.post(trackdesk.url("acme"), json=sale("o-2"))
        assert response.json()["message"] == "expired source"


async def test_latency_delays_every_answer(client: httpx.AsyncClient) -> None:
    async with simulator(latency_s=0.1) as trackdesk:
        response = await client.post(trackdesk.url("acme"), json=sale("o-1"))
        assert response.elapsed.total_seconds() >= 0.1
