"""What the client puts on the wire, byte by byte, and how it treats answers that are well formed."""

import asyncio
import gzip
import tracemalloc

import pytest

from tests.support.raw_http import RawRequest, RawServer, always, answer, raw_server
from tests.support.waiting import let_pass_async
from trackdesk_worker.trackdesk.client import TrackdeskClient
from trackdesk_worker.trackdesk.endpoint import Endpoint
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind, NotSent

BODY = (
    b'{"conversionTypeCode":"sale","cid":"0b7a4a5e-4c1e","amount":{"value":"100.50"},"currency":{"code":"EUR"},'
    b'"externalId":"A/1 & 2","customParams":{"advS1":"Zo\xc3\xab"},"couponCodes":["A","B C"]}'
)
QUERY = (
    b"conversionTypeCode=sale&cid=0b7a4a5e-4c1e&amount.value=100.50&currency.code=EUR"
    b"&externalId=A%2F1%20%26%202&customParams.advS1=Zo%C3%AB&couponCodes=A&couponCodes=B%20C"
)
PAIRED = b'{"cid":"0b7a4a5e-4c1e"}'


def client_for(endpoint: Endpoint, *, timeout_s: float = 5.0, max_body: int = 16_384) -> TrackdeskClient:
    return TrackdeskClient(
        lambda _: endpoint, connect_timeout_s=2.0, timeout_s=timeout_s, concurrency=8, max_body=max_body
    )


async def sent(server: RawServer, endpoint: Endpoint, body: bytes = BODY) -> tuple[Answer | Failure, RawRequest]:
    client = client_for(endpoint)
    result, duration_s = await client.send("shop", body)
    await client.aclose()
    assert 0 < duration_s < 5
    return result, server.requests[-1]


async def test_a_post_carries_the_stored_body_unchanged() -> None:
    async with raw_server(always(answer(PAIRED, headers=b"Content-Type: application/json\r\n"))) as server:
        result, request = await sent(server, Endpoint(server.base_url))
    assert request.body == BODY
    lines = request.head.rstrip().split(b"\r\n")
    assert lines[0] == b"POST /tracking/conversion/v1 HTTP/1.1"
    assert sorted(lines[1:]) == [
        b"Accept-Encoding: identity",
        b"Accept: application/json",
        b"Content-Length: %d" % len(BODY),
        b"Content-Type: application/json",
        b"Host: 127.0.0.1:%d" % server.port,
        b"User-Agent: trackdesk-worker/0.1.0",
    ]
    assert result == Answer(200, "application/json", None, PAIRED)


async def test_a_get_says_the_same_in_its_query_and_has_no_body() -> None:
    async with raw_server(always(answer(PAIRED))) as server:
        _, request = await sent(server, Endpoint(server.base_url + "/{tenant}", "GET"))
    assert request.body == b""
    lines = request.head.rstrip().split(b"\r\n")
    assert lines[0] == b"GET /shop/tracking/conversion/v1?" + QUERY + b" HTTP/1.1"
    assert sorted(lines[1:]) == [
        b"Accept-Encoding: identity",
        b"Accept: application/json",
        b"Host: 127.0.0.1:%d" % server.port,
        b"User-Agent: trackdesk-worker/0.1.0",
    ]


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_key_travels_in_its_header_and_never_comes_back(method: str) -> None:
    key = 's3cret"key'
    echo = b'{"message":"key s3cret\\"key or s3cret"key is revoked"}'
    async with raw_server(always(answer(echo, status="401 Unauthorized"))) as server:
        result, request = await sent(server, Endpoint(server.base_url, method, key))  # type: ignore[arg-type]
    assert request.headers[b"x-api-key"] == key.encode()
    assert isinstance(result, Answer)
    assert result.body == b'{"message":"key [redacted] or [redacted] is revoked"}'


async def test_changed_settings_apply_to_the_next_request() -> None:
    keys = iter(["one", "two"])
    async with raw_server(always(answer(PAIRED))) as server:
        client = TrackdeskClient(
            lambda _: Endpoint(server.base_url, "POST", next(keys)),
            connect_timeout_s=2.0,
            timeout_s=5.0,
            concurrency=8,
        )
        await client.send("shop", BODY)
        await client.send("shop", BODY)
        await client.aclose()
        assert [request.headers[b"x-api-key"] for request in server.requests] == [b"one", b"two"]
        assert server.connections == 1  # the connection was kept


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with raw_server(always(answer(PAIRED))) as target:
        location = b"Location: %s/tracking/conversion/v1\r\n" % target.base_url.encode()
        async with raw_server(always(answer(b"", status="307 Temporary Redirect", headers=location))) as server:
            result, _ = await sent(server, Endpoint(server.base_url))
        assert target.requests == []
    assert isinstance(result, Answer)
    assert result.status == 307


async def test_a_header_of_no_interest_may_hold_any_bytes() -> None:
    async with raw_server(always(answer(PAIRED, headers=b"Server: \xe9\r\n"))) as server:
        result, _ = await sent(server, Endpoint(server.base_url))
    assert result == Answer(200, "", None, PAIRED)


async def test_cookies_are_not_kept() -> None:
    async with raw_server(always(answer(PAIRED, headers=b"Set-Cookie: a=b; Path=/\r\n"))) as server:
        client = client_for(Endpoint(server.base_url))
        await client.send("shop", BODY)
        await client.send("shop", BODY)
        await client.aclose()
        assert b"cookie" not in server.requests[1].headers


async def test_a_compressed_answer_is_never_inflated() -> None:
    bomb = gzip.compress(b"\0" * 100_000_000)
    async with raw_server(always(answer(bomb, headers=b"Content-Encoding: gzip\r\n"))) as server:
        tracemalloc.start()
        result, _ = await sent(server, Endpoint(server.base_url))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert isinstance(result, Answer)
    assert result.body == bomb[:16_384]
    assert result.truncated
    assert peak < 10_000_000


async def test_an_endless_body_is_read_up_to_the_limit_and_no_further() -> None:
    offered = 0

    async def endless(_: RawRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal offered
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()
            offered += 10_000

    async with raw_server(endless) as server:
        result, _ = await sent(server, Endpoint(server.base_url))
    assert isinstance(result, Answer)
    assert (len(result.body), result.truncated) == (16_384, True)
    assert offered < 20_000_000  # what the sockets' buffers hold, and then the connection was closed


async def test_a_body_of_exactly_the_limit_is_whole() -> None:
    async with raw_server(always(answer(b"x" * 100))) as server:
        for max_body, truncated in ((100, False), (99, True)):
            client = client_for(Endpoint(server.base_url), max_body=max_body)
            result, _ = await client.send("shop", BODY)
            await client.aclose()
            assert isinstance(result, Answer)
            assert (len(result.body), result.truncated) == (max_body, truncated)


async def test_no_more_than_the_concurrency_is_in_flight_and_connections_are_kept() -> None:
    busy = most = 0

    async def counted(_: RawRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await let_pass_async(0.01)
        busy -= 1
        writer.write(answer(PAIRED))

    async with raw_server(counted) as server:
        client = client_for(Endpoint(server.base_url))
        results = await asyncio.gather(*(client.send("shop", BODY) for _ in range(64)))
        await client.aclose()
    assert [result.status for result, _ in results if isinstance(result, Answer)] == [200] * 64
    assert most <= 8
    assert server.connections <= 8


@pytest.mark.parametrize("trust_env", [True, False])
async def test_the_proxy_environment_is_honoured_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, trust_env: bool
) -> None:
    async with raw_server(always(answer(PAIRED))) as proxy, raw_server(always(answer(PAIRED))) as server:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        client = TrackdeskClient(
            lambda _: Endpoint(server.base_url),
            connect_timeout_s=2.0,
            timeout_s=5.0,
            concurrency=8,
            trust_env=trust_env,
        )
        await client.send("shop", BODY)
        await client.aclose()
        assert (len(proxy.requests), len(server.requests)) == ((1, 0) if trust_env else (0, 1))


@pytest.mark.parametrize("body", [b"", b"[", b"[1]", b'{"amount":{"value":1.5}}', b"\xff", b"[" * 100_000])
async def test_a_body_no_query_can_be_made_of_is_not_sent(body: bytes) -> None:
    async with raw_server(always(answer(PAIRED))) as server:
        client = client_for(Endpoint(server.base_url, "GET"))
        result, _ = await client.send("shop", body)
        await client.aclose()
        assert isinstance(result, Failure)
        assert (result.kind, result.sent) == (FailureKind.UNSENDABLE, False)
        assert server.requests == []


@pytest.mark.parametrize(
    ("base_url", "tenant"),
    [("https://{tenant}.trackdesk.com", "evil.example/"), ("https://xn--a.trackdesk.com", "shop"), ("nowhere", "shop")],
)
async def test_settings_that_name_no_address_are_a_failure_that_sent_nothing(base_url: str, tenant: str) -> None:
    client = client_for(Endpoint(base_url))
    result, _ = await client.send(tenant, BODY)
    await client.aclose()
    assert isinstance(result, Failure)
    assert (result.kind, result.sent) == (FailureKind.NO_ADDRESS, False)


async def test_an_error_of_ours_before_the_request_left_says_so() -> None:
    def endpoint_for(tenant: str) -> Endpoint:
        raise KeyError(tenant)

    client = TrackdeskClient(endpoint_for, connect_timeout_s=1, timeout_s=1, concurrency=1)
    with pytest.raises(NotSent) as raised:
        await client.send("shop", BODY)
    await client.aclose()
    assert isinstance(raised.value.__cause__, KeyError)
