"""Each fault as the client sees it, and what it leaves in the ledger."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.simulator import sale, simulator
from tests.support.waiting import until

BROKEN = (httpx.RemoteProtocolError, httpx.ReadError)


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as opened:
        yield opened


async def test_commit_then_drop_records_the_sale_and_loses_the_answer(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"commit_then_drop": 1}) as trackdesk:
        with pytest.raises(BROKEN):
            await client.post(trackdesk.url("acme"), json=sale("o-1"))
        assert trackdesk.ledger.exactly_once(["o-1"]).ok
        trackdesk.configure(faults={"commit_then_drop": 0})
        assert (await client.post(trackdesk.url("acme"), json=sale("o-1"))).status_code == 409
        assert trackdesk.ledger.exactly_once(["o-1"]).ok
        assert trackdesk.stats.answers == {"dropped": 1, "409": 1}


async def test_drop_before_commit_records_nothing(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"drop_before_commit": 1}) as trackdesk:
        with pytest.raises(BROKEN):
            await client.post(trackdesk.url("acme"), json=sale("o-1"))
        assert trackdesk.ledger.count() == 0


async def test_commit_then_late_outlasts_an_impatient_client(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"commit_then_late": 1, "late_s": 0.3}) as trackdesk:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(trackdesk.url("acme"), json=sale("o-1"), timeout=0.1)
        assert trackdesk.ledger.exactly_once(["o-1"]).ok
        response = await client.post(trackdesk.url("acme"), json=sale("o-2"))
        assert response.json()["cid"]
        assert response.elapsed.total_seconds() >= 0.3


async def test_a_slow_body_starts_at_once_and_ends_late(client: httpx.AsyncClient) -> None:
    async with (
        simulator(faults={"slow_body": 1, "slow_body_s": 0.3}) as trackdesk,
        client.stream("POST", trackdesk.url("acme"), json=sale("o-1")) as response,
    ):
        assert response.status_code == 200
        body = b"".join([chunk async for chunk in response.aiter_raw()])
        assert body == b'{"cid": "7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11"}'
        assert response.elapsed.total_seconds() >= 0.3
        assert trackdesk.ledger.count() == 1


async def test_a_slow_body_times_out_in_the_middle(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"slow_body": 1, "slow_body_s": 5}) as trackdesk:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(trackdesk.url("acme"), json=sale("o-1"), timeout=0.1)
        assert trackdesk.ledger.count() == 1


async def test_errors_have_the_set_statuses_and_record_nothing(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"error_rate": 1, "error_statuses": [500, 502, 503]}, seed=3) as trackdesk:
        seen = Counter[int]()
        for number in range(60):
            response = await client.post(trackdesk.url("acme"), json=sale(f"o-{number}"))
            seen[response.status_code] += 1
        assert set(seen) == {500, 502, 503}
        assert trackdesk.ledger.count() == 0
        assert trackdesk.stats.faults == {"error": 60}


async def test_html_with_200_records_nothing(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"html_200": 1}) as trackdesk:
        response = await client.post(trackdesk.url("acme"), json=sale("o-1"))
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/html")
        assert trackdesk.ledger.count() == 0


async def test_an_empty_cid_is_answered_for_a_recorded_sale_only(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"empty_cid": 1}) as trackdesk:
        response = await client.post(trackdesk.url("acme"), json=sale("o-1"))
        assert (response.status_code, response.json()) == (200, {"cid": ""})
        assert trackdesk.ledger.count() == 1
        assert (await client.post(trackdesk.url("acme"), json=sale("o-1"))).status_code == 409


async def test_a_hang_never_answers_and_records_nothing(client: httpx.AsyncClient) -> None:
    async with simulator(faults={"hang": 1, "hang_s": 60}) as trackdesk:
        with pytest.raises(httpx.ReadTimeout):
            await client.post(trackdesk.url("acme"), json=sale("o-1"), timeout=0.1)
        assert trackdesk.ledger.count() == 0
        trackdesk.configure(faults={"hang_s": 0.1})
        with pytest.raises(BROKEN):
            await client.post(trackdesk.url("acme"), json=sale("o-1"))
        assert trackdesk.stats.answers == {"hung": 2}
        # a client that gave up is no longer in flight, long before the hang ends
        assert trackdesk.stats.in_flight == 0


async def test_a_stop_does_not_wait_for_what_hangs(client: httpx.AsyncClient) -> None:
    async with simulator(outage="hang") as trackdesk:
        waiting = [asyncio.create_task(client.post(trackdesk.url("acme"), json=sale("o-1"))) for _ in range(20)]
        async with asyncio.timeout(5):
            await until(lambda: trackdesk.stats.in_flight == 20, "all are in flight")
            trackdesk.reset()
            assert trackdesk.stats.max_in_flight == 20
            await trackdesk.stop()
            results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, BROKEN) for result in results)
    assert trackdesk.stats.in_flight == 0


async def test_only_the_sick_tenant_is_struck(client: httpx.AsyncClient) -> None:
    async with simulator(tenants={"sick": {"faults": {"drop_before_commit": 1}}}) as trackdesk:
        with pytest.raises(BROKEN):
            await client.post(trackdesk.url("sick"), json=sale("o-1"))
        assert (await client.post(trackdesk.url("healthy"), json=sale("o-1"))).status_code == 200


async def test_an_outage_strikes_everything_until_it_ends(client: httpx.AsyncClient) -> None:
    async with simulator(outage="503") as trackdesk:
        url = trackdesk.url("acme")
        assert {(await client.post(url, json=sale("o-1"))).status_code for _ in range(5)} == {503}
        trackdesk.configure(outage="drop")
        with pytest.raises(BROKEN):
            await client.post(url, json=sale("o-1"))
        trackdesk.configure(outage="hang")
        with pytest.raises(httpx.ReadTimeout):
            await client.post(url, json=sale("o-1"), timeout=0.1)
        assert trackdesk.ledger.count() == 0
        trackdesk.configure(outage="off")
        assert (await client.post(url, json=sale("o-1"))).status_code == 200


async def test_an_outage_may_strike_one_tenant(client: httpx.AsyncClient) -> None:
    async with simulator() as trackdesk:
        trackdesk.configure(tenants={"sick": {"outage": "503"}})
        assert (await client.post(trackdesk.url("sick"), json=sale("o-1"))).status_code == 503
        assert (await client.post(trackdesk.url("healthy"), json=sale("o-1"))).status_code == 200


async def test_the_same_seed_strikes_the_same_requests() -> None:
    runs = []
    for _ in range(2):
        async with (
            simulator(faults={"error_rate": 0.3, "html_200": 0.2}, seed=11) as trackdesk,
            httpx.AsyncClient(trust_env=False) as client,
        ):
            posts = [await client.post(trackdesk.url("acme"), json=sale(f"o-{i}")) for i in range(40)]
            runs.append([(post.status_code, post.headers["Content-Type"]) for post in posts])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 2
