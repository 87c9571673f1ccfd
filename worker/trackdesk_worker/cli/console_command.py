"""``trackdesk console``: metrics of the store, health and the ops console over HTTP; and who may use it."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
import uvicorn

from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.options import json_option
from trackdesk_worker.cli.output import add_row, console, emit_json, table
from trackdesk_worker.config.settings import Settings, load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.console.access import AccessFile, Role, grant, read_people, revoke
from trackdesk_worker.console.application import console_routes
from trackdesk_worker.console.auth import Method, Principal, Rules
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.sampler import Sampler
from trackdesk_worker.console.site import Site, is_loopback
from trackdesk_worker.exporter.app import create_app
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.process import bootstrap
from trackdesk_worker.telemetry.log_writer import open_log_writer
from trackdesk_worker.telemetry.logging import configure_logging

STOP_WITHIN_S = 5


@click.group("console", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", help="Interface to listen on (TRACKDESK_CONSOLE_HOST, by default 127.0.0.1).")
@click.option("--port", type=click.IntRange(1, 65_535), help="Port (TRACKDESK_CONSOLE_PORT).")
@click.option("--metrics-only", is_flag=True, help="Serve /metrics and health, and no console.")
@click.option(
    "--operator",
    metavar="NAME",
    envvar=["USER", "LOGNAME"],
    default="local",
    help="Operator in the audit log while no tokens are set up. Default: $USER.",
)
@click.pass_context
def command(ctx: click.Context, host: str | None, port: int | None, metrics_only: bool, operator: str) -> None:
    """Serve the console, its API (/api/v1), /metrics of the store and health until SIGTERM or Ctrl-C.

    On this machine's own interface it needs no set-up. On another it requires tokens (`trackdesk console token`) or a
    trusted proxy (TRACKDESK_CONSOLE_PROXIES), or --metrics-only.
    """
    if ctx.invoked_subcommand is None:
        _serve(load_settings(console_host=host, console_port=port), metrics_only, operator)


@command.command("token")
@click.argument("name")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), default=Role.VIEWER.value, show_default=True,
    help="viewer sees, operator acts, admin also discards and exports personal data.",
)  # fmt: skip
@click.option("--no-token", is_flag=True, help="Only assign the role: a proxy authenticates this user.")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of TRACKDESK_CONSOLE_TOKENS.")
def token_command(name: str, role: str, no_token: bool, file: Path | None) -> None:
    """Give NAME a role and a new token, printed once and not stored; the previous one stops working."""
    token = grant(_file(file), name, Role(role), with_token=not no_token)
    click.echo(f"{name} is {role}" if token is None else token)


@command.command("revoke")
@click.argument("name")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of TRACKDESK_CONSOLE_TOKENS.")
def revoke_command(name: str, file: Path | None) -> None:
    """Remove NAME's token and role; sessions opened with it end immediately."""
    path = _file(file)
    if not revoke(path, name):
        raise CommandFailed(f"{path} has no line for {name}")
    click.echo(f"{name} no longer has access")


@command.command("people")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Instead of TRACKDESK_CONSOLE_TOKENS.")
@json_option
def people_command(file: Path | None, as_json: bool) -> None:
    """List who may use the console."""
    people = read_people(_file(file)).by_name.values()
    if as_json:
        emit_json(
            [
                {"name": one.name, "role": one.role.value, "token": one.digest is not None, "made": one.made}
                for one in people
            ]
        )
        return
    rows = table("name", "role", "token", "made")
    for one in people:
        add_row(rows, one.name, one.role.value, "yes" if one.digest else "no: comes through a proxy", one.made)
    console().print(rows)


def _file(given: Path | None) -> Path:
    path = given or load_settings().console_tokens
    if path is None:
        raise click.UsageError("set TRACKDESK_CONSOLE_TOKENS to the file of tokens, or pass --file")
    return path


def rules_of(settings: Settings, operator: str) -> Rules:
    """Return who may use a console with these settings.

    Raises:
        CommandFailed: it would be open to everyone who can reach it.
    """
    file = None if settings.console_tokens is None else AccessFile(settings.console_tokens)
    guarded = file is not None or settings.proxies
    if not guarded and not is_loopback(settings.console_host):
        raise CommandFailed(
            f"a console on {settings.console_host} would be open to everyone who can reach it: make tokens with "
            "`trackdesk console token NAME --role operator` and set TRACKDESK_CONSOLE_TOKENS to their file, "
            "set TRACKDESK_CONSOLE_PROXIES to a proxy that signs people in, or pass --metrics-only"
        )
    if file is not None:
        file.people()  # an invalid file is reported at the start
    local = None if guarded else Principal(Operator(operator, "local").name, Role.OPERATOR, Method.LOCAL)
    return Rules(
        site=Site(settings.console_url, settings.proxies),
        file=file,
        user_header=settings.console_user_header,
        proxy_role=Role(settings.console_proxy_role),
        local=local,
    )


def _serve(settings: Settings, metrics_only: bool, operator: str) -> None:
    rules = None if metrics_only else rules_of(settings, operator)
    listener = _listen(settings.console_host, settings.console_port)
    configure_logging(settings.log_level, open_log_writer())
    forecaster = Forecaster(Tenants(settings), settings.shares)
    with ExitStack() as stack:
        stack.enter_context(listener)
        routes = []
        if rules is not None:
            store = stack.enter_context(bootstrap.open_store(settings))
            producer = stack.enter_context(bootstrap.open_producer(settings))
            sampler = stack.enter_context(Sampler(store))
            routes = console_routes(Deployment(settings, store, forecaster, producer, sampler), rules)
        config = uvicorn.Config(
            create_app(bootstrap.open_async_store(settings), forecast=forecaster, routes=routes),
            log_config=None,
            access_log=False,
            server_header=False,
            # Only the console decides which proxies to trust; uvicorn's own rule would trust every local process.
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_WITHIN_S,
        )
        asyncio.run(_Server(config).serve(sockets=[listener]))


class _Server(uvicorn.Server):
    """Ends with exit code 0 on a signal; uvicorn's own server raises the signal again after the shutdown."""

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
