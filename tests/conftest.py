"""Fixtures every tier may ask for: real servers, a namespace per test."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from tests.support.frozen import resume
from tests.support.simulator import SimulatorProcess, simulator_process
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, valkey_binary

SERVERS = ("valkey", "redis")

settings.register_profile("quick", max_examples=20, deadline=None)  # of `make unit`; `make test` takes the usual 100


def server_binary(kind: str) -> Path:
    """Return the server to test on; a missing one skips here and fails in CI."""
    if kind == "valkey":
        return valkey_binary()
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing: .ci/run has to install it")
        pytest.skip("redis-server is not installed here; CI runs this on it too")
    return Path(found)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, EmbeddedServer]]:
    """Servers of this test process, started when first asked for."""
    running: dict[str, EmbeddedServer] = {}
    yield running
    for server in running.values():
        server.stop()


@pytest.fixture(params=SERVERS)
def server(
    request: pytest.FixtureRequest,
    servers: dict[str, EmbeddedServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> EmbeddedServer:
    """A shared server of each kind: never stop, pause or flush it; ask for `own_server` for that."""
    kind = request.param
    if kind not in servers:
        server = EmbeddedServer(tmp_path_factory.mktemp(kind), binary=server_binary(kind))
        server.start()
        servers[kind] = server
    return servers[kind]


@pytest.fixture(scope="session")
def valkey(servers: dict[str, EmbeddedServer], tmp_path_factory: pytest.TempPathFactory) -> EmbeddedServer:
    """The shared Valkey, for what does not depend on the kind of server."""
    if "valkey" not in servers:
        server = EmbeddedServer(tmp_path_factory.mktemp("valkey"), binary=server_binary("valkey"))
        server.start()
        servers["valkey"] = server
    return servers["valkey"]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A Valkey of the test's own, which it may kill, pause and restart."""
    server = EmbeddedServer(tmp_path / "valkey", binary=server_binary("valkey"))
    server.start()
    yield server
    resume(server)
    server.stop()


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """A blocking client of `server`."""
    with redis.Redis(port=server.port) as connection:
        yield connection


@pytest.fixture
def keys(servers: dict[str, EmbeddedServer]) -> Iterator[Keys]:
    """A namespace nobody else uses. Its keys leave with the test: what scans a shared server stays fast."""
    made = Keys(f"test-{uuid.uuid4().hex[:12]}")
    yield made
    for running in servers.values():
        with redis.Redis(port=running.port) as client:
            names = list(client.scan_iter(match=f"{{{made.namespace}*", count=5_000))
            for start in range(0, len(names), 5_000):
                client.unlink(*names[start : start + 5_000])


@pytest.fixture
def trackdesk() -> Iterator[SimulatorProcess]:
    """A simulated Trackdesk of the test's own, in a process of its own, without faults until a test configures some."""
    with simulator_process() as running:
        yield running
