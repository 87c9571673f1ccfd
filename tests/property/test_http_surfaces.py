"""Whatever a client sends to the port of a worker or the exporter: it is answered or hung up on, the next is served."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.exporter.app import create_app
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.process.bootstrap import open_async_store
from trackdesk_worker.process.metrics_server import WorkerServer
from trackdesk_worker.telemetry.health import Health, HealthStatus
from trackdesk_worker.telemetry.metrics import WorkerMetrics

FLOOD = b"<flood>"
"""A placeholder for 70,000 bytes without an end: written out when sent, so that a failing example stays readable."""

pieces = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/livez",
        b"/metrics",
        b"/../etc/passwd",
        b"?name[]=%00",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\x00",
        b"\xff",
        b"Content-Length: -1",
        b"Content-Length: 99999999999",
        b"Accept: ",
        b"application/openmetrics-text; version=x",
        b":",
        FLOOD,
        b"%",
    ]
)
requests = st.binary(max_size=300) | st.lists(pieces, max_size=12).map(b"".join)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = WorkerServer(
        "127.0.0.1", 0, registry=WorkerMetrics().registry, health=Health(), ready=lambda: HealthStatus(True, "ready")
    )
    server.start()
    yield server.port
    server.stop()


def talk(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while data := client.recv(65_536):
                answer += data
        except TimeoutError:
            raise
        except OSError:  # hung up on while we were still sending: reset, broken pipe, or no longer connected
            return b""
        return answer


@settings(max_examples=60, deadline=None)
@given(requests)
def test_a_worker_answers_or_hangs_up_whatever_it_is_sent(port: int, request: bytes) -> None:
    answer = talk(port, request.replace(FLOOD, b"A" * 70_000))
    assert b"Traceback" not in answer
    assert talk(port, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["/metrics", "/livez", "/readyz", "/startupz"]) | st.text(max_size=30).map(lambda path: f"/{path}"),
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "BREW"]),
    st.binary(max_size=60),
    st.binary(max_size=60),
)
def test_the_exporter_answers_whatever_it_is_asked_while_its_store_is_away(
    path: str, method: str, query: bytes, accept: bytes
) -> None:
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def ask() -> None:
        given = load_settings(redis_url="redis://127.0.0.1:1/0")
        app = create_app(open_async_store(given), forecast=Forecaster(Tenants(given), given.shares), timeout_s=2)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "query_string": query,
            "root_path": "",
            "headers": [(b"accept", accept), (b"host", b"x")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await app(scope, receive, send)

    asyncio.run(ask())
    assert len(statuses) == 1
    assert statuses[0] in (200, 404, 405, 503, 307)
