"""Prints and asks for all commands: tables, JSON, progress, confirmation."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from trackdesk_worker.cli import CommandFailed

UNWATCHED_WIDTH = 200
"""Width of a table outside a terminal: wide enough for one line per row."""


def console() -> Console:
    """Return the console of stdout."""
    return Console(width=None if sys.stdout.isatty() else UNWATCHED_WIDTH, highlight=False)


def emit_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """Return an empty table; `right` names the columns of numbers."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def add_row(to: Table, *cells: object) -> None:
    """Add a row of plain text; data is never read as markup."""
    to.add_row(*[Text("" if cell is None else str(cell)) for cell in cells])


def facts(pairs: Mapping[str, object], *, title: str | None = None) -> Table:
    """Return names and values, without those that are None."""
    made = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in pairs.items():
        if value is not None:
            made.add_row(Text(name, style="bold"), Text(str(value)))
    return made


def warn(sentence: str) -> None:
    """Print a note on stderr."""
    click.echo(f"trackdesk: {sentence}", err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`; end the command on any answer but yes."""
    if yes:
        return
    _needs_terminal("--yes")
    if not click.confirm(question, err=True):
        raise CommandFailed("nothing was changed")


def confirm_count(question: str, count: int, *, yes: bool, given: int | None) -> None:
    """Ask for the count, or compare the given one; end the command unless it is right."""
    if yes:
        if given is None:
            raise click.UsageError(f"--yes needs --count with the number of jobs; now it would be --count {count}")
        if given != count:
            raise CommandFailed(f"--count {given} does not match the {count} jobs found; nothing was changed")
        return
    _needs_terminal(f"--yes --count {count}")
    if click.prompt(question, err=True).strip() != str(count):
        raise CommandFailed("the number does not match; nothing was changed")


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool) -> Iterator[Progress]:
    """Show a bar on stderr while the block runs, on a terminal only; advance its first task."""
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())
    with bar:
        bar.add_task(label, total=total)
        yield bar


@contextmanager
def open_target(file: str, force: bool) -> Iterator[BinaryIO]:
    """Open a file for an export, readable by its owner only; ``-`` is stdout."""
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(Path(file), flags, 0o600), "wb") as target:
            yield target
    except FileExistsError as error:
        raise click.UsageError(f"{file} exists: choose another name, or pass --force to replace it") from error


def _needs_terminal(flags: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"Not a terminal: pass {flags}")
