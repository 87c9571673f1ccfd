"""A small HTTP server in every worker process: its metrics and its health. Standard library only."""

import json
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from trackdesk_worker.telemetry.health import Health, HealthStatus

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CLIENT_TIMEOUT_S = 5


class WorkerServer:
    """Serves ``/metrics``, ``/livez``, ``/readyz`` and ``/startupz`` from threads of its own.

    Listens when constructed, so that a port in use shows at once; `start` serves, `stop` ends it.

    Args:
        host: interface.
        port: port; 0 takes a free one, which `port` then names.
        registry: what ``/metrics`` shows.
        health: what ``/livez`` and ``/startupz`` ask.
        ready: what ``/readyz`` asks; it may block for as long as its own timeouts allow.

    Raises:
        OSError: if the address cannot be used.
    """

    def __init__(
        self, host: str, port: int, *, registry: CollectorRegistry, health: Health, ready: Callable[[], HealthStatus]
    ) -> None:
        app = _application(registry, health, ready)
        self._server = make_server(host, port, app, server_class=_Server, handler_class=_Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; requests at work end by themselves."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind without the base class's reverse look-up of the host name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away: probes do."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Log no probes."""


def _application(registry: CollectorRegistry, health: Health, ready: Callable[[], HealthStatus]) -> "WSGIApplication":
    metrics = make_wsgi_app(registry)
    checks: dict[str, Callable[[], HealthStatus]] = {
        "/livez": lambda: HealthStatus(*health.live()),
        "/startupz": lambda: HealthStatus(*health.started()),
        "/readyz": ready,
    }

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        check = checks.get(path)
        verdict = check() if check else None
        status = "404 Not Found" if verdict is None else "200 OK" if verdict.ok else "503 Service Unavailable"
        said = (
            {"ok": False, "detail": "unknown path"} if verdict is None else {"ok": verdict.ok, "detail": verdict.detail}
        )
        body = json.dumps(said).encode()
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    return application
