"""``trackdesk up``: the whole product on one machine, for a trial, a small shop, or the demo."""

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from trackdesk_worker.cli.demo_screen import run_demo
from trackdesk_worker.local.stack import LocalStack

DATA = Path(".trackdesk")
PORT = 6390


@click.command("up")
@click.option("--demo", is_flag=True, help="Send 1,000 sample sales to a simulated Trackdesk with faults, then check.")
@click.option("--stay", is_flag=True, help="With --demo: keep everything running afterwards.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    show_default=True,
    help="Where the embedded server keeps its data, and all processes their logs.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Port of the embedded server; 0 takes a free one.",
)
def command(demo: bool, stay: bool, processes: int, data: Path, port: int) -> int:
    """Run Valkey, workers and the exporter on this machine until Ctrl-C.

    The embedded Valkey keeps its data on disk (AOF). With TRACKDESK_REDIS_URL set, that server is used instead.
    """
    if stay and not demo:
        raise click.UsageError("--stay goes with --demo")
    if demo:
        with _stop_signal() as stop:
            return run_demo(processes, stop if stay else None, notify=_notify)
    stack = LocalStack(data=data.absolute(), port=port, processes=processes, overrides={}, notify=_notify)
    with _stop_signal() as stop, stack.running():
        _say_where(stack)
        stack.watch_until(stop)
    click.echo("stopped; the data is kept")
    return 0


def _say_where(stack: LocalStack) -> None:
    settings = stack.settings
    click.echo("up; Ctrl-C stops everything in order. In another terminal:")
    for name, value in stack.variables.items():
        click.echo(f"  export {name}={shlex.quote(value)}")
    click.echo("  trackdesk status")
    if settings.metrics_port:
        click.echo(f"metrics of the workers from http://{settings.metrics_host}:{settings.metrics_port}/metrics on,")
    click.echo(f"console at http://127.0.0.1:{settings.console_port}/, metrics of the store at its /metrics")
    click.echo(f"logs in {stack.logs}")


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Set the event on SIGTERM, and on Ctrl-C where an exception would interrupt the start or stop."""
    stop = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _notify(line: str) -> None:
    click.echo(line, err=True)
