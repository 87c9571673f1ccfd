"""``trackdesk console``: metrics of the store and health over HTTP."""

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import click
import uvicorn

from trackdesk_worker.bootstrap import keys, open_async_redis
from trackdesk_worker.ops.cli import CommandFailed
from trackdesk_worker.outlook import Lookout
from trackdesk_worker.settings import load_settings
from trackdesk_worker.telemetry.exporter import create_app
from trackdesk_worker.telemetry.logging import configure_logging
from trackdesk_worker.tenants import Tenants

LOOPBACK = "127.0.0.1"
STOP_WITHIN_S = 5


@click.command("console")
@click.option("--host", default=LOOPBACK, show_default=True, help="Interface to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port (TRACKDESK_CONSOLE_PORT).")
def command(host: str, port: int | None) -> None:
    """Serve /metrics of the store and health (/livez, /readyz, /startupz) until SIGTERM or Ctrl-C."""
    settings = load_settings(console_port=port)
    listener = _listen(host, settings.console_port)
    configure_logging(settings.log_level)
    if not _is_loopback(host):
        click.echo(
            f"trackdesk: listening on {host} without authentication; this serves /metrics and health only, "
            "but to everyone who can reach it",
            err=True,
        )
    config = uvicorn.Config(
        create_app(open_async_redis(settings), keys(settings), outlook=Lookout(Tenants(settings), settings.shares)),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    with listener:
        asyncio.run(_Server(config).serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal: uvicorn's own would raise it once more after the shutdown."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise CommandFailed(f"cannot listen on {host} port {port}: {error}") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
