"""The screen of ``trackdesk up --demo``."""

import importlib.util
import json
import random
import shlex
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trackdesk_producer import ReceiptStatus, State
from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.local import demo
from trackdesk_worker.local.embedded import free_port
from trackdesk_worker.local.stack import LocalStack
from trackdesk_worker.process import bootstrap
from trackdesk_worker.process.supervisor import Child
from trackdesk_worker.store.ledger import Book


def run_demo(processes: int, stop: threading.Event | None, *, notify: Callable[[str], None]) -> int:
    """Run the demo and return its exit code: 0 only if the promise was kept.

    Args:
        processes: worker processes.
        stop: if given, everything keeps running afterwards until it is set.
        notify: called with a line per process that ended unexpectedly.
    """
    if any(importlib.util.find_spec(name) is None for name in ("aiohttp", "trackdesk_simulator")):
        raise CommandFailed(
            "the demo needs the simulator, which is not installed here (the production image leaves it out): build the "
            "image with --target demo, or pip install 'trackdesk-worker[simulator,embedded]'"
        )
    simulator_port = free_port()
    origin = f"http://127.0.0.1:{simulator_port}"
    console = Console()
    with tempfile.TemporaryDirectory(prefix="trackdesk-demo-") as data:
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
            notify=notify,
        )
        simulator = Child(
            "simulator",
            ["simulate", "--port", str(simulator_port), "--config", json.dumps(demo.SIMULATOR)],
            log=stack.logs / "simulator.log",
        )
        console.print(
            f"[bold]Demo:[/] {demo.SALES:,} sample sales, with repeats, conflicts and bad ones among them, to a\n"
            "simulated Trackdesk that answers 500 to 503, drops connections after recording, and answers too late."
        )
        with stack.running(simulator):
            demo.wait_for_simulator(origin)
            verdict = _deliver(console, stack, origin)
            _print_verdict(console, verdict)
            _print_next(console, stack, stay=stop is not None)
            if stop is not None:
                stack.watch_until(stop)
    return 0 if verdict.ok else 1


def _deliver(console: Console, stack: LocalStack, origin: str) -> demo.DemoResult:
    rng = random.Random(20)  # noqa: S311 - the same sample every time
    with bootstrap.open_producer(stack.settings) as producer:
        receipts = demo.enqueue_sample(producer, rng)
    accepted = sum(1 for receipt in receipts if receipt.status is ReceiptStatus.ACCEPTED)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
        console=console,
    ) as progress:
        task = progress.add_task("delivering", total=accepted, detail="")

        def show(now: demo.Progress) -> None:
            jobs = now.book.jobs
            done = jobs[State.DELIVERED] + jobs[State.DEAD]
            waiting = jobs[State.SCHEDULED]
            progress.update(
                task,
                completed=done,
                detail=f"{now.requests:,} requests, {waiting} waiting for a retry, {jobs['dead']} dead",
            )
            stack.watch()

        with bootstrap.open_store(stack.settings) as store:
            return demo.deliver(store, origin, receipts, show=show)


def _print_verdict(console: Console, verdict: demo.DemoResult) -> None:
    receipts, book = verdict.receipts, verdict.book
    table = Table(title="The books", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("enqueued", f"{sum(receipts.values()):,}", "")
    table.add_row("  accepted", f"{receipts['accepted']:,}", _money(book, "accepted"))
    table.add_row("  duplicate", f"{receipts['duplicate']:,}", "recognised by externalId, stored once")
    table.add_row("  conflict", f"{receipts['conflict']:,}", "same externalId, other amount: refused")
    table.add_row("  refused", f"{receipts['refused']:,}", "broke a rule of Trackdesk's guide")
    table.add_row("delivered", f"{book.jobs['delivered']:,}", _money(book, "delivered"))
    confirmed = book.jobs["delivered_confirmed_duplicate"]
    table.add_row("  confirmed", f"{confirmed:,}", "recorded before the connection broke; confirmed by the repeat")
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
        console.print("[green]Audit clean: every accepted sale is accounted for, each delivered one is there once.[/]")
    else:
        console.print("[red bold]The promise was not kept; the lines above say where.[/]")


def _print_next(console: Console, stack: LocalStack, *, stay: bool) -> None:
    if not stay:
        console.print(
            "\nNext: [bold]trackdesk up --demo --stay[/] keeps it running, to list, explain and redrive the dead."
        )
        return
    console.print("\nEverything keeps running until Ctrl-C. In another terminal:\n")
    for name, value in stack.variables.items():
        if name in ("TRACKDESK_REDIS_URL", "TRACKDESK_NAMESPACE", "TRACKDESK_TENANT"):
            console.print(f"  export {name}={shlex.quote(value)}", highlight=False, soft_wrap=True)
    for line in ("status", "dead causes", "dead list", "show order-00003", "redrive --all --reason demo", "audit"):
        console.print(f"  trackdesk {line}", highlight=False)


def _money(book: Book, column: str) -> str:
    return ", ".join(f"{amount:,.2f} {currency}" for currency, amount in book.money.get(column, {}).items())
