"""The rate limit over HTTP, on a clock that the test moves."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.simulator import sale, simulator
from trackdesk_simulator import ManualClock, RunningSimulator

MINUTE = 1_767_225_600.0


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as opened:
        yield opened


async def statuses(client: httpx.AsyncClient, trackdesk: RunningSimulator, count: int) -> list[int]:
    already = trackdesk.stats.requests
    return [(await client.post(trackdesk.url("acme"), json=sale(f"o-{already + i}"))).status_code for i in range(count)]


async def test_a_bucket_of_five_a_second_refills_with_the_clock(client: httpx.AsyncClient) -> None:
    clock = ManualClock(MINUTE)
    async with simulator(clock=clock, rate_limit={"per_s": 5}) as trackdesk:
        assert await statuses(client, trackdesk, 7) == [200] * 5 + [429] * 2
        clock.advance(0.4)
        assert await statuses(client, trackdesk, 3) == [200] * 2 + [429]
        assert trackdesk.ledger.count() == 7


async def test_sixty_second_lockouts_end_after_sixty_seconds(client: httpx.AsyncClient) -> None:
    clock = ManualClock(MINUTE + 17)
    async with simulator(clock=clock, rate_limit={"per_s": 5, "lockout_s": 60}) as trackdesk:
        assert await statuses(client, trackdesk, 6) == [200] * 5 + [429]
        clock.advance(59.9)
        assert await statuses(client, trackdesk, 2) == [429] * 2
        clock.advance(0.1)
        assert await statuses(client, trackdesk, 1) == [200]
        assert trackdesk.snapshot()["lockouts"] == 1
        assert trackdesk.snapshot()["rate_limited"] == 3


async def test_a_lockout_lasts_until_the_minute_ends(client: httpx.AsyncClient) -> None:
    clock = ManualClock(MINUTE + 20)
    limit = {"kind": "minute", "per_s": 0.1, "retry_after": True}
    async with simulator(clock=clock, rate_limit=limit) as trackdesk:
        assert await statuses(client, trackdesk, 7) == [200] * 6 + [429]
        clock.set(MINUTE + 58.5)
        refused = await client.post(trackdesk.url("acme"), json=sale("o-x"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
        clock.set(MINUTE + 60)
        assert await statuses(client, trackdesk, 7) == [200] * 6 + [429]
        assert trackdesk.snapshot()["tenants"]["acme"]["lockouts"] == 2


async def test_retry_after_is_sent_only_when_it_is_switched_on(client: httpx.AsyncClient) -> None:
    clock = ManualClock(MINUTE)
    limit = {"per_s": 5, "burst": 1, "lockout_s": 60}
    async with simulator(clock=clock, rate_limit=limit) as trackdesk:
        await statuses(client, trackdesk, 1)
        silent = await client.post(trackdesk.url("acme"), json=sale("o-x"))
        assert "Retry-After" not in silent.headers
        assert silent.json()["code"] == 8
        trackdesk.configure(rate_limit={"retry_after": True})
        await statuses(client, trackdesk, 1)
        refused = await client.post(trackdesk.url("acme"), json=sale("o-x"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")


@pytest.mark.parametrize("profile", ["all-400", "all-500", "empty-body"])
async def test_429_is_429_in_every_profile(client: httpx.AsyncClient, profile: str) -> None:
    limit = {"per_s": 1}
    async with simulator(clock=ManualClock(), profile=profile, rate_limit=limit) as trackdesk:
        assert await statuses(client, trackdesk, 2) == [200, 429]


async def test_every_tenant_has_a_budget_of_its_own(client: httpx.AsyncClient) -> None:
    settings = {"rate_limit": {"per_s": 1}, "tenants": {"big": {"rate_limit": {"per_s": 3}}}}
    async with simulator(clock=ManualClock(), **settings) as trackdesk:
        for tenant, budget in (("a", 1), ("b", 1), ("big", 3)):
            got = [(await client.post(trackdesk.url(tenant), json=sale(f"o-{i}"))).status_code for i in range(5)]
            assert got.count(200) == budget


async def test_a_reset_ends_lockouts_and_forgets_them(client: httpx.AsyncClient) -> None:
    limit = {"per_s": 1, "lockout_s": 60}
    async with simulator(clock=ManualClock(), rate_limit=limit) as trackdesk:
        assert await statuses(client, trackdesk, 2) == [200, 429]
        trackdesk.reset()
        assert trackdesk.snapshot()["lockouts"] == 0
        assert await statuses(client, trackdesk, 2) == [200, 429]


async def test_a_new_rule_starts_afresh_and_keeps_the_count_of_lockouts(client: httpx.AsyncClient) -> None:
    limit = {"per_s": 1, "lockout_s": 60}
    async with simulator(clock=ManualClock(), rate_limit=limit) as trackdesk:
        await statuses(client, trackdesk, 2)
        trackdesk.configure(latency_s=0.001)  # another setting leaves the lockout alone
        assert await statuses(client, trackdesk, 1) == [429]
        trackdesk.configure(rate_limit={"per_s": 2})
        assert await statuses(client, trackdesk, 3) == [200, 200, 429]
        assert trackdesk.snapshot()["lockouts"] == 2


async def test_refused_requests_count_against_the_budget(client: httpx.AsyncClient) -> None:
    limit = {"per_s": 1}
    async with simulator(clock=ManualClock(), rate_limit=limit, key_mode="revoked") as trackdesk:
        assert await statuses(client, trackdesk, 2) == [403, 429]


async def test_arrivals_show_the_pace_by_the_simulators_clock(client: httpx.AsyncClient) -> None:
    clock = ManualClock(MINUTE)
    async with simulator(clock=clock, rate_limit={"per_s": 5, "burst": 1}, max_arrivals=3) as trackdesk:
        await statuses(client, trackdesk, 2)
        clock.advance(3_600)
        await statuses(client, trackdesk, 2)
        assert trackdesk.stats.arrival_times() == [MINUTE, MINUTE + 3_600, MINUTE + 3_600]
        assert trackdesk.stats.arrival_times(admitted=True) == [MINUTE + 3_600]
        assert trackdesk.stats.arrival_times(tenant="other") == []
