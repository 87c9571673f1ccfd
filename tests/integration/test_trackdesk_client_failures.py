"""Each way an exchange can break, against a real server: bounded in time, named, and honest about what was sent."""

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trustme

from tests.support.raw_http import Handler, RawRequest, always, answer, raw_server
from tests.support.waiting import let_pass_async
from trackdesk_worker.trackdesk.client import TrackdeskClient
from trackdesk_worker.trackdesk.endpoint import Endpoint
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind

BODY = b'{"conversionTypeCode":"sale","cid":"x","customerId":"jane@example.com"}'
CONNECT_TIMEOUT_S = 0.4
TIMEOUT_S = 0.8
BOUND_S = 2.0
"""Time for an exchange on a busy machine; without the client's own limits each would take far longer."""


async def send(base_url: str, method: str = "POST") -> Answer | Failure:
    client = TrackdeskClient(
        lambda _: Endpoint(base_url, method),  # type: ignore[arg-type]
        connect_timeout_s=CONNECT_TIMEOUT_S,
        timeout_s=TIMEOUT_S,
        concurrency=8,
    )
    started = time.monotonic()
    result, duration_s = await client.send("shop", BODY)
    await client.aclose()
    assert time.monotonic() - started < BOUND_S
    assert duration_s < BOUND_S
    return result


async def failed(base_url: str, method: str = "POST") -> tuple[FailureKind, bool]:
    result = await send(base_url, method)
    assert isinstance(result, Failure)
    assert "jane" not in result.detail
    assert "http" not in result.detail
    assert result.detail
    return result.kind, result.sent


async def never(_: RawRequest, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def drip(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await let_pass_async(0.05)


async def drip_head(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await let_pass_async(0.05)


async def flood_of_headers(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Flood: " + b"y" * 8_000 + b"\r\n")
        await writer.drain()


LATE, LOST, BROKEN = FailureKind.TIMEOUT, FailureKind.CONNECTION_LOST, FailureKind.PROTOCOL_ERROR


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        pytest.param(never, LATE, id="no answer"),
        pytest.param(drip, LATE, id="a body that drips"),
        pytest.param(drip_head, LATE, id="a head that drips"),
        pytest.param(reset, LOST, id="reset before the answer"),
        pytest.param(always(b"", close=True), LOST, id="closed before the answer"),
        pytest.param(always(b"HTTP/1.1 200 OK\r\nCont", close=True), LOST, id="closed in the head"),
        pytest.param(always(answer(b"{}" * 9)[:-3], close=True), LOST, id="shorter than its length"),
        pytest.param(
            always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", close=True), LOST, id="half a chunk"
        ),
        pytest.param(
            always(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), BROKEN, id="no chunk at all"
        ),
        pytest.param(
            always(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), BROKEN, id="two lengths"
        ),
        pytest.param(flood_of_headers, BROKEN, id="a flood of headers"),
        pytest.param(always(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), BROKEN, id="another protocol"),
        pytest.param(always(b"HTTP/1.1 abc OK\r\n\r\n"), BROKEN, id="no status"),
        pytest.param(
            always(answer(b"{}", headers=b"Content-Type: \xe9\r\n")), BROKEN, id="a content type that is not ASCII"
        ),
    ],
)
async def test_what_breaks_after_the_connection_may_have_landed(
    handler: Handler, kind: FailureKind, method: str
) -> None:
    async with raw_server(handler) as server:
        assert await failed(server.base_url, method) == (kind, True)
        assert len(server.requests) == 1  # nothing below repeats a request by itself


async def test_an_answer_after_the_timeout_does_not_reach_the_next_request() -> None:
    release = asyncio.Event()

    async def late_then_prompt(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        if request is server.requests[0]:
            await release.wait()
            writer.write(answer(b'{"cid":"late"}'))
        else:
            writer.write(answer(b'{"cid":"prompt"}'))

    async with raw_server(late_then_prompt) as server:
        client = TrackdeskClient(
            lambda _: Endpoint(server.base_url), connect_timeout_s=CONNECT_TIMEOUT_S, timeout_s=TIMEOUT_S, concurrency=1
        )
        first, _ = await client.send("shop", BODY)
        release.set()
        second, _ = await client.send("shop", BODY)
        await client.aclose()
    assert isinstance(first, Failure)
    assert (first.kind, first.sent) == (LATE, True)
    assert isinstance(second, Answer)
    assert second.body == b'{"cid":"prompt"}'


async def test_a_cancelled_send_ends_at_once_and_passes_the_cancellation_on() -> None:
    arrived = asyncio.Event()

    async def arrive(_: RawRequest, __: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async with raw_server(arrive) as server:
        task = asyncio.ensure_future(send(server.base_url))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_refused_connection_was_not_sent() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        assert await failed(f"http://127.0.0.1:{port}") == (FailureKind.CONNECT_ERROR, False)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full, so that the kernel answers nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for client in waiting:
            client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse instead of being silent")
async def test_a_connection_nobody_answers_was_not_sent() -> None:
    with full_backlog() as port:
        assert await failed(f"http://127.0.0.1:{port}") == (FailureKind.CONNECT_TIMEOUT, False)


async def test_a_name_that_does_not_resolve_was_not_sent() -> None:
    kind, sent = await failed("http://{tenant}.invalid", "GET")
    assert kind in (FailureKind.DNS_ERROR, FailureKind.CONNECT_TIMEOUT)  # a resolver may be out of reach itself
    assert not sent


def tls_context(ca: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(name).configure_cert(context)
    return context


async def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_sent() -> None:
    async with raw_server(always(answer(b"{}")), tls=tls_context(trustme.CA(), "127.0.0.1")) as server:
        result = await send(f"https://127.0.0.1:{server.port}")
        assert server.requests == []
    assert isinstance(result, Failure)
    assert (result.kind, result.sent) == (FailureKind.TLS_ERROR, False)
    assert "UnknownIssuer" in result.detail


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep their own store of roots")
@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("other.example", False)])
async def test_a_certificate_must_carry_the_name_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, name: str, trusted: bool
) -> None:
    ca = trustme.CA()
    ca_file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with raw_server(always(answer(b'{"cid":"x"}')), tls=tls_context(ca, name)) as server:
        result = await send(f"https://localhost:{server.port}")
    if trusted:
        assert isinstance(result, Answer)
        assert result.body == b'{"cid":"x"}'
    else:
        assert isinstance(result, Failure)
        assert (result.kind, result.sent) == (FailureKind.TLS_ERROR, False)


async def test_https_to_a_port_that_speaks_plain_http_was_not_sent() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await failed(f"https://127.0.0.1:{port}") == (FailureKind.TLS_ERROR, False)
    server.close()


async def test_a_handshake_that_hangs_was_not_sent() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert await failed(f"https://127.0.0.1:{silent.getsockname()[1]}") == (FailureKind.CONNECT_TIMEOUT, False)
