"""Health of the exporter, and `trackdesk console` as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.frozen import resume, suspend
from tests.support.waiting import wait_until
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.domain.limits import Shares
from trackdesk_worker.exporter.app import create_app
from trackdesk_worker.local.embedded import EmbeddedServer, free_port
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.ops.readiness import store_ready
from trackdesk_worker.store.job_store import AsyncJobStore, JobStore

FORECASTER = Forecaster(Tenants(load_settings()), Shares())


async def ask(port: int, keys: Keys, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
    async with redis.asyncio.Redis(port=port, protocol=2, retry=AsyncRetry(NoBackoff(), 0)) as client:
        app = create_app(AsyncJobStore(client, keys), forecast=FORECASTER, timeout_s=timeout_s)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://exporter") as http:
            answer = await http.get(path)
            assert answer.headers["cache-control"] == "no-store"
            return answer.status_code, answer.json()["detail"]


async def test_a_store_that_is_safe_is_ready(server: EmbeddedServer, keys: Keys) -> None:
    assert await ask(server.port, keys, "/readyz") == (200, "ready")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("appendonly", "no", "appendonly is off"),
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru, must be noeviction"),
        ("min-replicas-to-write", "1", "the store takes no writes: NOREPLICAS Not enough good replicas to write."),
    ],
)
async def test_a_store_that_would_lose_sales_is_not_ready(
    own_server: EmbeddedServer, keys: Keys, name: str, value: str, said: str
) -> None:
    with redis.Redis(port=own_server.port) as client:
        client.config_set(name, value)
        assert await ask(own_server.port, keys, "/readyz") == (503, said)
        assert store_ready(JobStore(client, keys)).detail == said


async def test_a_full_store_is_ready_because_deliveries_go_on(own_server: EmbeddedServer, keys: Keys) -> None:
    with redis.Redis(port=own_server.port) as client:
        client.config_set("maxmemory", "1mb")
        with pytest.raises(redis.OutOfMemoryError):
            client.set("more", "x")
    assert (await ask(own_server.port, keys, "/readyz"))[0] == 200


async def test_without_a_store_the_exporter_is_alive_and_not_ready(own_server: EmbeddedServer, keys: Keys) -> None:
    suspend(own_server)
    assert await ask(own_server.port, keys, "/readyz", 0.2) == (503, "the store did not answer within 0.2 s")
    resume(own_server)
    own_server.kill()
    assert await ask(own_server.port, keys, "/readyz") == (503, "the store cannot be reached: ConnectionError")
    assert await ask(own_server.port, keys, "/livez") == (200, "alive")
    assert await ask(own_server.port, keys, "/startupz") == (200, "alive")
    with redis.Redis(port=own_server.port, retry=Retry(NoBackoff(), 0)) as client:
        assert not store_ready(JobStore(client, keys)).ok


@pytest.fixture
def console(own_server: EmbeddedServer) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = start("--port", str(port), TRACKDESK_REDIS_URL=own_server.url)
    yield process, port
    process.kill()
    process.communicate()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trackdesk_worker", "console", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_up(process: subprocess.Popen[str], port: int) -> None:
    def up() -> bool:
        assert process.poll() is None, process.communicate(timeout=1)
        try:
            return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(up, "the console is up", poll_s=0.05)


def test_the_console_serves_on_loopback_and_ends_well_on_a_signal(console: tuple[subprocess.Popen[str], int]) -> None:
    process, port = console
    wait_until_up(process, port)

    page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    assert page.headers["content-type"].startswith("text/plain")
    assert "trackdesk_collector_success 1.0" in page.text
    assert "Overview" in httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).text
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((other_address(), port), timeout=2)

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert all(json.loads(line)["level"] == "info" for line in errors.splitlines())


def other_address() -> str:
    """Return a loopback address that is not 127.0.0.1: a listener on all interfaces would answer there."""
    return "127.0.0.2" if sys.platform == "linux" else "::1"


def test_a_console_open_to_everyone_is_refused_with_what_to_set(own_server: EmbeddedServer) -> None:
    process = start("--host", "0.0.0.0", TRACKDESK_REDIS_URL=own_server.url)
    _, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    for way_out in (
        "trackdesk console token",
        "TRACKDESK_CONSOLE_TOKENS",
        "TRACKDESK_CONSOLE_PROXIES",
        "--metrics-only",
    ):
        assert way_out in errors


def test_metrics_and_health_alone_may_be_on_any_interface(own_server: EmbeddedServer) -> None:
    port = free_port()
    process = start("--host", "0.0.0.0", "--port", str(port), "--metrics-only", TRACKDESK_REDIS_URL=own_server.url)
    try:
        wait_until_up(process, port)
        assert httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 404
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert errors.startswith(f"trackdesk: cannot listen on 127.0.0.1 port {port}: ")
    assert len(errors.splitlines()) == 1
