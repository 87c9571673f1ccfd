"""``trackdesk dead``: list, show, count, export and correct dead letters. `redrive` and `discard` act on many."""

import shlex
from typing import Any, get_args

import click

from trackdesk_producer.contract.record import NO_CURRENCY, State
from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.job_view import print_job
from trackdesk_worker.cli.options import (
    filter_options,
    json_option,
    open_session,
    operator_of,
    operator_options,
    reveal_option,
    search_of,
    tenant_option,
    type_option,
    yes_option,
)
from trackdesk_worker.cli.output import add_row, confirm, console, emit_json, open_target, table, warn
from trackdesk_worker.domain.money import plain_amount, plain_money, readable_money
from trackdesk_worker.domain.outcome import Reason
from trackdesk_worker.ops.dead_letters.by_cause import dead_by_cause
from trackdesk_worker.ops.dead_letters.edit import edit_and_redrive, propose
from trackdesk_worker.ops.dead_letters.export import Form, export
from trackdesk_worker.ops.dead_letters.filters import ANY_STATE
from trackdesk_worker.ops.dead_letters.search import MAX_LIMIT, JobRow, SearchInvalid, search
from trackdesk_worker.ops.lookup import find_job
from trackdesk_worker.ops.timestamps import iso, readable_moment
from trackdesk_worker.store.dead_letters.query import Order


@click.group("dead", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, show, count, export and correct dead letters: sales that need a decision. They never expire."""


@command.command("list")
@filter_options("--reason", "--cause")
@click.option(
    "--state",
    type=click.Choice([*map(str, State), ANY_STATE]),
    default="dead",
    show_default=True,
    help="In this state.",
)
@click.option("--sort", "order", type=click.Choice(get_args(Order)), default="newest", show_default=True)
@click.option(
    "--limit", type=click.IntRange(1, MAX_LIMIT), default=100, show_default=True, help="Maximum number of rows."
)
@click.option("--after", metavar="CURSOR", help="Continue after the page that ended with this cursor.")
@json_option
def list_command(limit: int, after: str | None, as_json: bool, state: str, order: Order, **chosen: Any) -> None:
    """List dead letters, the newest first. With --state: sales in other states."""
    with open_session() as session:
        wanted = search_of(session, state=state, order=order, **chosen)
        try:
            page = search(session.store, wanted, limit=limit, after=after, within_s=None)
        except SearchInvalid as error:
            raise click.UsageError(str(error)) from error
    if as_json:
        emit_json([_as_json(row) for row in page.rows])
    elif not page.rows:
        click.echo("no dead letter matches" if state == "dead" else "no sale matches")
    else:
        rows = table(
            "died (UTC)" if state == "dead" else "at (UTC)", "tenant", "externalId", "type",
            *([] if state == "dead" else ["state"]), "reason", "status", "attempts", "amount",
            right=("status", "attempts", "amount"),
        )  # fmt: skip
        for row in page.rows:
            money = None if row.amount is None else readable_money({row.currency or NO_CURRENCY: row.amount})
            if row.reason == Reason.DUPLICATE_DIFFERS:
                money = f"{money or '-'} (in doubt: {', '.join(row.in_doubt)})"
            add_row(
                rows, readable_moment(row.at_ms), row.tenant, row.external_id, row.conversion_type,
                *([] if state == "dead" else [row.state.value.replace("_", " ")]), row.reason, row.http_status,
                row.attempts, money,
            )  # fmt: skip
        console().print(rows)
    if page.cursor is not None:
        total = "" if page.total is None else f" of {page.total:,}"
        warn(f"Showing {len(page.rows)}{total}. Next page: --after {shlex.quote(page.cursor)}")


@command.command("show")
@click.argument("external_id")
@tenant_option
@type_option
@reveal_option
@operator_options
@json_option
def show_command(external_id: str, operator: str | None, why: str | None, reveal: bool, **chosen: Any) -> None:
    """Show one dead letter: every attempt and answer, and what to do."""
    who = operator_of(operator, why, default_reason="dead show --reveal") if reveal else None
    if not print_job(external_id, reveal_to=who, **chosen).dead:
        raise CommandFailed(f"{external_id!r} is not a dead letter")


@command.command("causes")
@filter_options("--reason", "--cause")
@json_option
def causes_command(as_json: bool, **chosen: Any) -> None:
    """Count dead letters by cause, with what to do about each."""
    with open_session() as session:
        found = dead_by_cause(session.store, search_of(session, **chosen), most=MAX_LIMIT, within_s=None).rows
    if as_json:
        emit_json(
            [
                {
                    "tenant": c.tenant,
                    "reason": c.reason,
                    "conversion_type": c.conversion_type,
                    "http_status": c.http_status,
                    "jobs": c.jobs,
                    "money": plain_money(c.money),
                    "first_died_at": iso(c.first_ms),
                    "last_died_at": iso(c.last_ms),
                    "example": c.example,
                    "remedy": c.remedy,
                }
                for c in found
            ]
        )
        return
    if not found:
        click.echo("no dead letter matches")
        return
    rows = table(
        "jobs", "money", "tenant", "type", "reason", "status", "since (UTC)", "until (UTC)", "what to do",
        right=("jobs", "money", "status"),
    )  # fmt: skip
    for c in found:
        add_row(
            rows, f"{c.jobs:,}", readable_money(c.money), c.tenant, c.conversion_type, c.reason, c.http_status,
            readable_moment(c.first_ms), readable_moment(c.last_ms), c.remedy,
        )  # fmt: skip
    console().print(rows)


@command.command("export")
@click.argument("file")
@filter_options("--cause")
@click.option(
    "--format",
    "form",
    type=click.Choice([*map(str, Form)]),
    default=Form.JSONL.value,
    show_default=True,
    help="jsonl: `trackdesk import` reads it; csv: every field; trackdesk: the columns of Trackdesk's own CSV import.",
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@operator_options
def export_command(file: str, form: str, force: bool, operator: str | None, why: str | None, **chosen: Any) -> None:
    """Write dead letters to FILE (- is stdout): to import elsewhere, to review, or to import at Trackdesk by hand.

    The file may hold personal data: only you can read it, and the export is audited. The dead letters stay:
    after an import by hand, discard them.
    """
    who = operator_of(operator, why, default_reason="dead export")
    with open_session() as session:
        wanted = search_of(session, **chosen)
        with open_target(file, force) as target:
            count = export(session.store, wanted, who, target, form=Form(form))
    warn(f"{count:,} dead letters written")


@command.command("edit")
@click.argument("external_id")
@tenant_option
@type_option
@click.option("--set", "given", metavar="FIELD=VALUE", multiple=True, help="Set a field of the guide to a value.")
@click.option("--unset", "taken", metavar="FIELD", multiple=True, help="Remove a field.")
@operator_options
@yes_option
@json_option
def edit_command(
    external_id: str,
    tenant: str | None,
    conversion_type: str | None,
    given: tuple[str, ...],
    taken: tuple[str, ...],
    operator: str | None,
    why: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Correct one dead letter and redrive it: same sale, same externalId, audited. Needs --reason.

    Fields have the names of Trackdesk's guide: --set conversionTypeCode=purchase --set amount.value=99.90.
    """
    changes: dict[str, str | None] = dict.fromkeys(taken)
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise click.UsageError("write --set FIELD=VALUE, or --unset FIELD to remove a field")
        changes[name.strip()] = value
    if not changes:
        raise click.UsageError("nothing to correct: pass --set FIELD=VALUE")
    who = operator_of(operator, why)
    with open_session() as session:
        identity = find_job(
            session.store,
            external_id,
            tenant=tenant or session.settings.tenant,
            conversion_type=conversion_type,
        )
        proposed = propose(session.store, identity, changes)
        if proposed.errors:
            raise click.UsageError("; ".join(proposed.errors))
        if not as_json:
            rows = table("field", "before", "after")
            for change in proposed.diff:
                add_row(rows, change.field, change.before or "(none)", change.after or "(none)")
            console().print(rows)
        for warning in proposed.warnings:
            warn(warning)
        confirm("Correct it like this and redrive it?", yes=yes)
        edited = edit_and_redrive(session.store, identity, changes, who, expect=proposed.shown)
    if as_json:
        diff = [{"field": c.field, "before": c.before, "after": c.after} for c in edited.diff]
        emit_json({"external_id": external_id, "job_id": edited.job_id, "redriven": 1, "changes": diff})
    else:
        click.echo(f"{external_id} is corrected and redriven")


def _as_json(row: JobRow) -> dict[str, Any]:
    dead = row.state is State.DEAD
    return {
        "tenant": row.tenant,
        "external_id": row.external_id,
        "conversion_type": row.conversion_type,
        "reason": row.reason,
        "http_status": row.http_status,
        "attempts": row.attempts,
        **({"died_at": iso(row.at_ms)} if dead else {"state": row.state.value, "at": iso(row.at_ms)}),
        "accepted_at": iso(row.accepted_ms),
        "amount": None if row.amount is None else plain_amount(row.amount, row.currency),
        "currency": row.currency,
        "redrives": row.redrives,
        "may_have_landed": row.may_have_landed,
        "in_doubt": list(row.in_doubt),
        "job_id": row.id,
    }
