"""``trackdesk dead``: look at dead letters. Acting on them is `redrive` and `discard`."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from trackdesk_worker.ops import dead_letter_service as service
from trackdesk_worker.ops.cli import CommandFailed
from trackdesk_worker.ops.cli.job_view import print_job
from trackdesk_worker.ops.cli.options import (
    dead_filter,
    filter_options,
    json_option,
    open_desk,
    operator_of,
    operator_options,
    tenant_option,
    type_option,
)
from trackdesk_worker.ops.cli.output import add_row, console, emit_json, table, warn
from trackdesk_worker.ops.dead_export import export
from trackdesk_worker.ops.moments import iso, readable_moment
from trackdesk_worker.ops.money import plain_amount, plain_money, readable_money
from trackdesk_worker.ops.remedies import remedy
from trackdesk_worker.store.dead_letters import DeadLetter, DeadLettersUnreadable, read_page

MAX_LIMIT = 10_000


@click.group("dead", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look at dead letters: sales that need a person. They never expire."""


@command.command("list")
@filter_options("--reason", "--cause")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=100, show_default=True, help="At most so many.")
@click.option("--after", metavar="CURSOR", help="Go on behind the page that ended with this cursor.")
@json_option
def list_command(limit: int, after: str | None, as_json: bool, **chosen: Any) -> None:
    """List dead letters, the youngest first."""
    with open_desk() as desk:
        try:
            page = read_page(desk.client, desk.keys, dead_filter(desk, **chosen), limit=limit, after=after)
        except DeadLettersUnreadable as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        emit_json([_as_json(letter) for letter in page.letters])
    elif not page.letters:
        click.echo("no dead letter matches")
    else:
        rows = table(
            "died (UTC)", "tenant", "externalId", "type", "reason", "attempts", "amount", right=("attempts", "amount")
        )
        for letter in page.letters:
            record = letter.record
            money = None if letter.amount is None else readable_money({record.currency or "": letter.amount})
            add_row(
                rows, readable_moment(letter.died_ms), record.tenant, record.external_id, letter.conversion_type,
                letter.reason, record.attempts_total, money,
            )  # fmt: skip
        console().print(rows)
    if page.cursor is not None:
        warn(f"there are more; the next page: --after {shlex.quote(page.cursor)}")


@command.command("show")
@click.argument("external_id")
@tenant_option
@type_option
@click.option("--reveal", is_flag=True, help="Show personal data too; put on record.")
@operator_options
@json_option
def show_command(external_id: str, operator: str | None, why: str | None, reveal: bool, **chosen: Any) -> None:
    """Show one dead letter: every attempt and answer, and what to do."""
    who = operator_of(operator, why, default_reason="dead show --reveal") if reveal else None
    if not print_job(external_id, reveal_to=who, **chosen).dead:
        raise CommandFailed(f"{external_id!r} is no dead letter")


@command.command("clusters")
@filter_options("--reason", "--cause")
@json_option
def clusters_command(as_json: bool, **chosen: Any) -> None:
    """Count dead letters by cause, with what to do about each."""
    with open_desk() as desk:
        found = service.clusters(desk.client, desk.keys, dead_filter(desk, **chosen))
    if as_json:
        emit_json(
            [
                {
                    "tenant": c.tenant,
                    "reason": c.reason,
                    "conversion_type": c.conversion_type,
                    "jobs": c.jobs,
                    "money": plain_money(c.money),
                    "first_died_at": iso(c.first_ms),
                    "last_died_at": iso(c.last_ms),
                    "example": c.example,
                    "remedy": remedy(c.reason),
                }
                for c in found
            ]
        )
        return
    if not found:
        click.echo("no dead letter matches")
        return
    rows = table(
        "jobs", "money", "tenant", "type", "reason", "since (UTC)", "until (UTC)", "what to do", right=("jobs", "money")
    )
    for c in found:
        add_row(
            rows, f"{c.jobs:,}", readable_money(c.money), c.tenant, c.conversion_type, c.reason,
            readable_moment(c.first_ms), readable_moment(c.last_ms), remedy(c.reason),
        )  # fmt: skip
    console().print(rows)


@command.command("export")
@click.argument("file")
@filter_options("--cause")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@operator_options
def export_command(file: str, force: bool, operator: str | None, why: str | None, **chosen: Any) -> None:
    """Write dead letters to FILE (- is stdout) as JSON lines that `trackdesk import` reads.

    The lines hold personal data: the file is readable for you alone, and the export is put on record.
    """
    who = operator_of(operator, why, default_reason="dead export")
    with open_desk() as desk:
        wanted = dead_filter(desk, **chosen)
        with _target(file, force) as target:
            count = export(desk.client, desk.keys, wanted, who, target)
    warn(f"{count:,} dead letters written")


@contextmanager
def _target(file: str, force: bool) -> Iterator[BinaryIO]:
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


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    record = letter.record
    return {
        "tenant": record.tenant,
        "external_id": record.external_id,
        "conversion_type": letter.conversion_type,
        "reason": letter.reason,
        "attempts": record.attempts_total,
        "died_at": iso(letter.died_ms),
        "accepted_at": iso(record.accepted_ms),
        "amount": None if letter.amount is None else plain_amount(letter.amount, letter.currency),
        "currency": letter.currency,
        "redrives": record.redrives,
        "may_have_landed": record.ambiguous,
        "job_id": record.id,
    }
