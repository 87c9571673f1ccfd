"""``trackdesk up``: the whole product on one machine, for a trial, a small shop, or the demo."""

import json
import random
import shlex
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trackdesk_producer.contract.job import State
from trackdesk_worker import bootstrap
from trackdesk_worker.ops.cli import CommandFailed
from trackdesk_worker.ops.embedded import free_port
from trackdesk_worker.ops.local_stack import LocalStack
from trackdesk_worker.ops.supervisor import Child

DATA = Path(".trackdesk")
PORT = 6390
WATCH_S = 0.2


@click.command("up")
@click.option("--demo", is_flag=True, help="Send 1,000 sample sales to a simulated Trackdesk with faults, then check.")
@click.option("--stay", is_flag=True, help="With --demo: keep everything running afterwards, to look around.")
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
        return _demo(processes, stay=stay)
    stack = LocalStack(data=data.absolute(), port=port, processes=processes, overrides={}, tell=_tell)
    with _stop_signal() as stop, stack.running():
        _say_where(stack)
        _watch(stack, stop)
    click.echo("stopped; the data is kept")
    return 0


def _demo(processes: int, *, stay: bool) -> int:
    try:
        from trackdesk_worker.ops import demo
        from trackdesk_worker.simulator import SimulatorConfig
    except ImportError as error:
        raise CommandFailed(
            "the demo needs the simulator: pip install 'trackdesk-worker[simulator,embedded]'"
        ) from error
    SimulatorConfig.model_validate(demo.SIMULATOR)
    simulator_port = free_port()
    origin = f"http://127.0.0.1:{simulator_port}"
    console = Console()
    with tempfile.TemporaryDirectory(prefix="trackdesk-demo-") as data, _stop_signal() as stop:
        stack = LocalStack(
            data=Path(data),
            port=0,
            processes=processes,
            overrides={
                **demo.SETTINGS,
                "namespace": f"demo-{random.randrange(16**8):08x}",  # noqa: S311 - a fresh name, not a secret
                "base_url": f"{origin}/{{tenant}}",
                "metrics_port": free_port(),
                "console_port": free_port(),
            },
            tell=_tell,
        )
        simulator = Child(
            "simulator",
            ["simulate", "--port", str(simulator_port), "--config", json.dumps(demo.SIMULATOR)],
            log=stack.logs / "simulator.log",
        )
        console.print(
            f"[bold]Demo:[/] {demo.SALES:,} sample sales, with repeats, conflicts and bad ones among them, to a simulated\n"
            "Trackdesk that answers 500 to 503, drops connections after recording, and answers too late."
        )
        with stack.running(simulator):
            demo.wait_for_simulator(origin)
            verdict = _deliver(console, stack, origin, demo)
            _print_verdict(console, verdict)
            _print_next(console, stack, stay)
            if stay:
                _watch(stack, stop)
    return 0 if verdict.ok else 1


def _deliver(console: Console, stack: LocalStack, origin: str, demo: Any) -> Any:
    rng = random.Random(20)  # noqa: S311 - the same sample every time
    client, keys = bootstrap.open_redis(stack.settings), bootstrap.keys(stack.settings)
    with bootstrap.open_producer(stack.settings) as producer:
        receipts = demo.enqueue_sample(producer, rng)
    accepted = sum(1 for receipt in receipts if receipt.status.value == "accepted")
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
    ) as progress:
        task = progress.add_task("delivering", total=accepted, detail="")

        def show(now: Any) -> None:
            jobs = now.book.jobs
            done = jobs[State.DELIVERED] + jobs[State.DEAD]
            waiting = jobs[State.SCHEDULED]
            progress.update(
                task,
                completed=done,
                detail=f"{now.requests:,} requests, {waiting} waiting for a retry, {jobs['dead']} dead",
            )
            stack.watch()

        with client:
            return demo.deliver(client, keys, origin, receipts, show=show)


def _print_verdict(console: Console, verdict: Any) -> None:
    receipts, book = verdict.receipts, verdict.book
    table = Table(title="The books", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("enqueued", f"{sum(receipts.values()):,}", "")
    table.add_row("  accepted", f"{receipts['accepted']:,}", _money(book, "accepted"))
    table.add_row("  duplicate", f"{receipts['duplicate']:,}", "recognised by externalId, stored once")
    table.add_row("  conflict", f"{receipts['conflict']:,}", "same externalId, other amount: refused loudly")
    table.add_row("  refused", f"{receipts['refused']:,}", "broke a rule of Trackdesk's guide")
    table.add_row("delivered", f"{book.jobs['delivered']:,}", _money(book, "delivered"))
    confirmed = book.jobs["delivered_confirmed_duplicate"]
    table.add_row("  confirmed", f"{confirmed:,}", "recorded before the connection broke; the repeat said so")
    table.add_row("dead letters", f"{book.jobs['dead']:,}", _money(book, "dead"))
    for reason, count in verdict.dead:
        table.add_row(f"  {reason}", f"{count:,}", "")
    console.print()
    console.print(table)
    console.print(
        f"\n{verdict.requests:,} requests in {verdict.seconds:.1f} s; "
        f"the simulator recorded {verdict.simulator_rows:,} conversions."
    )
    for text, names in (
        ("delivered, but not in the simulator's ledger", verdict.missing),
        ("more than once in the simulator's ledger", verdict.doubled),
        ("audit", verdict.discrepancies),
    ):
        for name in names[:10]:
            console.print(f"[red]{text}: {name}[/]")
    if verdict.unfinished:
        console.print(f"[red]{verdict.unfinished} sales were still on their way when the demo ended[/]")
    if verdict.ok:
        console.print("[green]Audit clean: every accepted sale is accounted for, each delivered one exactly once.[/]")
    else:
        console.print("[red bold]The promise was not kept; the lines above say where.[/]")


def _print_next(console: Console, stack: LocalStack, stay: bool) -> None:
    if not stay:
        console.print(
            "\nNext: [bold]trackdesk up --demo --stay[/] keeps it running, to list, explain and redrive the dead."
        )
        return
    console.print("\nEverything keeps running until Ctrl-C. In another terminal:\n")
    for name, value in stack.variables.items():
        if name in ("TRACKDESK_REDIS_URL", "TRACKDESK_NAMESPACE", "TRACKDESK_TENANT"):
            console.print(f"  export {name}={shlex.quote(value)}", highlight=False, soft_wrap=True)
    for line in ("status", "dead clusters", "dead list", "show order-00003", "redrive --all --reason demo", "audit"):
        console.print(f"  trackdesk {line}", highlight=False)


def _say_where(stack: LocalStack) -> None:
    settings = stack.settings
    click.echo("up; Ctrl-C stops everything in order. In another terminal:")
    for name, value in stack.variables.items():
        click.echo(f"  export {name}={shlex.quote(value)}")
    click.echo("  trackdesk status")
    if settings.metrics_port:
        click.echo(f"metrics of the workers from http://{settings.metrics_host}:{settings.metrics_port}/metrics on,")
    click.echo(f"metrics of the store at http://127.0.0.1:{settings.console_port}/metrics; logs in {stack.logs}")


def _watch(stack: LocalStack, stop: threading.Event) -> None:
    while not stop.wait(WATCH_S):
        stack.watch()


def _money(book: Any, column: str) -> str:
    return ", ".join(f"{amount:,.2f} {currency}" for currency, amount in book.money.get(column, {}).items())


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Turn SIGTERM into the event, and Ctrl-C too where it would otherwise tear through the middle of things."""
    stop = threading.Event()
    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _tell(line: str) -> None:
    click.echo(line, err=True)
