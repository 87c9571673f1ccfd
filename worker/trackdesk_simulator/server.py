"""The HTTP server of the simulator: aiohttp's low-level server, so that a request costs little.

For tests, demos and trials only; it authenticates nobody and listens on the loopback interface by default.
"""

import asyncio
import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, assert_never

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from trackdesk_simulator.admin import PREFIX, answer_admin, stats_json
from trackdesk_simulator.clock import Clock, SystemClock
from trackdesk_simulator.config import SimulatorConfig
from trackdesk_simulator.engine import Engine
from trackdesk_simulator.ledger import Ledger
from trackdesk_simulator.reply import HTML_TYPE, JSON_TYPE, WEB_APP, Delivery, Reply
from trackdesk_simulator.stats import Stats
from trackdesk_simulator.tenant import Tenant

CONVERSION_PATH: Final = "/tracking/conversion/v1"
LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


class RunningSimulator:
    """A simulator that serves; made by `start_simulator`, ended by `stop` (or by leaving `async with`)."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._runner: web.ServerRunner | None = None
        self._tenants_by_path: dict[str, Tenant] = {}
        self.port = 0

    @property
    def origin(self) -> str:
        """`http://host:port`, without a tenant."""
        host = self.config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def base_url(self) -> str:
        """The base URL for a worker: the tenant takes the placeholder's place."""
        return f"{self.origin}/{{tenant}}"

    def url(self, tenant: str) -> str:
        """Return the conversion endpoint of a tenant."""
        return f"{self.origin}/{tenant}{CONVERSION_PATH}"

    @property
    def ledger(self) -> Ledger:
        """What was recorded."""
        return self._engine.ledger

    @property
    def stats(self) -> Stats:
        """Counters over all tenants; `tenant_stats` has those of one."""
        return self._engine.stats

    def snapshot(self) -> dict[str, Any]:
        """Return all counters as plain values, by tenant too; the same as GET `/_simulator/stats`."""
        return stats_json(self._engine, {})

    @property
    def clock(self) -> Clock:
        """The clock that rules limits, lockouts, expiry and the ledger's times."""
        return self._engine.clock

    @property
    def config(self) -> SimulatorConfig:
        """The present settings; assign others, or use `configure`, to change them at run time."""
        return self._engine.config

    @config.setter
    def config(self, config: SimulatorConfig) -> None:
        self._engine.configure(config)

    def configure(self, **patch: Any) -> SimulatorConfig:
        """Change some settings from the next request on (a merge patch; None puts a default back).

        Raises ValueError for settings that are unknown, impossible, or only read at start.
        """
        self._engine.configure(self.config.patched(patch))
        return self.config

    def reset(self) -> None:
        """Empty the ledger, the counters and the limiters; keep the configuration."""
        self._engine.reset()

    async def start(self) -> None:
        """Bind and serve. Raises OSError if the address is taken."""
        server = web.Server(
            self._handle,
            request_factory=_request_factory(self.config.max_body_bytes),
            handler_cancellation=True,  # a client that gave up must not be counted as in flight
            access_log=None,
        )
        runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await runner.setup()
        self._runner = runner
        try:
            site = web.TCPSite(runner, self.config.host, self.config.port, backlog=4_096)
            await site.start()
        except BaseException:
            await self.stop()
            raise
        self.port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop serving, dropping what is in flight after 0.1 s. The ledger stays readable."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        self.ledger.close()

    async def __aenter__(self) -> "RunningSimulator":
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        tenant = self._tenants_by_path.get(path) or self._route(path, request)
        if tenant is None:
            return await self._elsewhere(request, path, query)
        engine = self._engine
        counters = tenant.stats
        engine.stats.enter(counters)
        try:
            # Reading first, so that what a client could not send in full is never recorded.
            body = await request.read() if request.body_exists else b""
            reply = engine.receive(tenant, request.method, query, body, request.headers.get("X-Api-Key"))
            wait_s = tenant.config.latency_s + (0.0 if reply.delivery is Delivery.SLOW else reply.wait_s)
            # Recorded first, waiting then: a client that gives up meanwhile cannot tell what happened.
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            return await _deliver(request, reply)
        finally:
            engine.stats.leave(counters)

    def _route(self, path: str, request: web.BaseRequest) -> Tenant | None:
        """Find the tenant by path prefix or by host name; None for every path that is not the endpoint."""
        if not path.endswith(CONVERSION_PATH):
            return None
        prefix = path.removesuffix(CONVERSION_PATH)
        if prefix:
            name = prefix.removeprefix("/")
            if not LABEL.fullmatch(name):
                return None
            tenant = self._engine.tenant(name)
            if tenant is not None:
                self._tenants_by_path[path] = tenant  # bounded: one path a tenant, and tenants are bounded
            return tenant
        return self._engine.tenant(_host_label(request.host) or self.config.default_tenant)

    async def _elsewhere(self, request: web.BaseRequest, path: str, query: str) -> web.Response:
        if path.startswith(PREFIX):
            body = await request.read() if request.body_exists else b""
            status, answer = answer_admin(self._engine, request.method, path, query, body)
            return web.Response(status=status, body=answer, content_type=JSON_TYPE)
        self._engine.stats.web_pages += 1
        return web.Response(body=WEB_APP, content_type=HTML_TYPE)


async def start_simulator(config: SimulatorConfig | None = None, *, clock: Clock | None = None) -> RunningSimulator:
    """Start a simulator on the running event loop and return it once it accepts connections.

    Raises OSError if the address is taken or the ledger file cannot be opened, LedgerFileError (a
    ValueError) if that file holds something else.
    """
    config = SimulatorConfig() if config is None else config
    ledger = Ledger(max_rows=config.max_rows, path=config.ledger_path)
    engine = Engine(config, ledger=ledger, clock=SystemClock() if clock is None else clock)
    simulator = RunningSimulator(engine)
    await simulator.start()
    return simulator


async def _deliver(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    match reply.delivery:
        case Delivery.SEND:
            response = web.Response(status=reply.status, body=reply.body, content_type=reply.content_type)
            if reply.retry_after_s is not None:
                response.headers["Retry-After"] = str(reply.retry_after_s)
            return response
        case Delivery.SLOW:
            return await _send_slowly(request, reply)
        case Delivery.DROP | Delivery.HANG:
            transport = request.transport
            if transport is not None:
                transport.abort()
            return web.Response()  # goes nowhere: the connection is gone
        case _:
            assert_never(reply.delivery)


async def _send_slowly(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
    response.content_length = len(reply.body)
    await response.prepare(request)
    half = len(reply.body) // 2
    await response.write(reply.body[:half])
    await asyncio.sleep(reply.wait_s)
    await response.write(reply.body[half:])
    return response


def _request_factory(
    max_body_bytes: int,
) -> Callable[
    [RawRequestMessage, StreamReader, RequestHandler, AbstractStreamWriter, "asyncio.Task[None]"],
    web.BaseRequest,
]:
    loop = asyncio.get_running_loop()

    def make(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=max_body_bytes)

    return make


def _host_label(host: str) -> str | None:
    """Return the first label of a host name with several, in lower case; None for an address or one label."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    label, dot, _ = name.lower().partition(".")
    if not dot or not LABEL.fullmatch(label):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return label
    return None
