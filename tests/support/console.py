"""A console on a real store, and visitors with and without a browser."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.support.waiting import wait_until
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.cli.console_command import rules_of
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.console.access import Role, grant
from trackdesk_worker.console.application import console_routes
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.sampler import Sampler
from trackdesk_worker.exporter.app import create_app
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.process import bootstrap

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


@dataclass
class Console:
    """A running console."""

    port: int
    tokens: dict[str, str] = field(default_factory=dict)
    """Role → token."""

    @property
    def origin(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> httpx.Client:
        """Return a client that is nobody and follows nothing."""
        return httpx.Client(base_url=self.origin, trust_env=False, timeout=20, **more)

    @contextmanager
    def signed_in(self, role: str) -> Iterator[httpx.Client]:
        """Yield a client with the session of a role, that sends forms as our own pages do."""
        with self.client(headers={"Origin": self.origin}) as client:
            answer = client.post("/sign-in", data={"token": self.tokens[role]})
            assert answer.status_code == 303, answer.text
            yield client

    def api(self, role: str) -> httpx.Client:
        """Return a client with the token of a role."""
        return self.client(headers={"Authorization": f"Bearer {self.tokens[role]}"})


@contextmanager
def console_on(
    server: EmbeddedServer,
    keys: Keys,
    tokens: Path | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> Iterator[Console]:
    """Serve in a thread of this process. With `tokens`, a user of each role has a token in that file."""
    made: dict[str, str] = {}
    if tokens is not None:
        made = {role.value: str(grant(tokens, f"{role}-ann", role)) for role in Role}
    given = load_settings(redis_url=server.url, namespace=keys.namespace, console_tokens=tokens, **settings)
    forecaster = Forecaster(Tenants(given), given.shares)
    with ExitStack() as stack:
        store = stack.enter_context(bootstrap.open_store(given))
        producer = stack.enter_context(bootstrap.open_producer(given))
        sampler = stack.enter_context(Sampler(store, period_s=1))
        routes = console_routes(
            Deployment(given, store, forecaster, producer, sampler), rules_of(given, "ann"), clock=clock
        )
        app = create_app(bootstrap.open_async_store(given), forecast=forecaster, routes=routes)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        config = uvicorn.Config(
            app, log_config=None, access_log=False, proxy_headers=False, timeout_graceful_shutdown=1
        )
        web = uvicorn.Server(config)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        wait_until(lambda: web.started or not thread.is_alive(), "the console has started", poll_s=0.01)
        assert thread.is_alive()
        try:
            yield Console(listener.getsockname()[1], made)
        finally:
            web.should_exit = True
            thread.join(10)


def chromium() -> Path:
    """Return the browser; a missing one skips here and fails in CI."""
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail("chromium is missing: .ci/run has to install it")
        pytest.skip("chromium is not installed here; CI walks through the console with it")
    return CHROMIUM
