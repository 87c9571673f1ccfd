"""``trackdesk log``: the audit log."""

import click

from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.options import json_option, open_session
from trackdesk_worker.cli.output import add_row, console, emit_json, open_target, table, warn
from trackdesk_worker.ops.audit.discrepancies import Findings
from trackdesk_worker.ops.audit.log_chain import check_audit_log
from trackdesk_worker.ops.audit_log import AuditEntry, read_page, walk_entries
from trackdesk_worker.ops.timestamps import iso, readable_moment


@click.command("log")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Maximum number of entries."
)
@click.option("--before", type=click.IntRange(1), metavar="NUMBER", help="Only entries before this one.")
@click.option(
    "--export", "file", metavar="FILE", help="Write the whole log to FILE (- is stdout) as JSON lines, with its hashes."
)
@click.option("--force", is_flag=True, help="With --export: replace the file if it exists.")
@click.option("--verify", is_flag=True, help="Check that no entry was changed, removed or inserted.")
@click.option(
    "--head", metavar="HASH", help="With --verify: a hash that an earlier one printed; it must still be there."
)
@json_option
def command(
    limit: int, before: int | None, file: str | None, force: bool, verify: bool, head: str | None, as_json: bool
) -> int:
    """Show the audit log, the newest entry first: who, what, how much, why, when."""
    if file is not None and verify:
        raise click.UsageError("--export or --verify, not both")
    if head is not None and not verify:
        raise click.UsageError("--head goes with --verify")
    with open_session() as session:
        if file is not None:
            with open_target(file, force) as target:
                written = sum(bool(target.write(raw + b"\n")) for raw in walk_entries(session.store))
            warn(f"{written:,} entries written")
            return 0
        if verify:
            findings = Findings()
            verdict = check_audit_log(session.store, findings, sought=head)
            if as_json:
                emit_json({"entries": verdict.entries, "head": verdict.head, "sound": findings.count == 0})
            elif findings.count == 0:
                click.echo(f"{verdict.entries:,} entries, unbroken; the last has the hash {verdict.head}")
            if findings.count:
                raise CommandFailed("; ".join(found.detail for found in findings.named()))
            return 0
        page = read_page(session.store, before=before, limit=limit)
    if as_json:
        emit_json([_as_json(entry) for entry in page.entries])
        return 0
    if not page.entries:
        click.echo("the audit log is empty")
        return 0
    rows = table("no.", "when (UTC)", "who", "what", "jobs", "plan or sale", "why", right=("no.", "jobs"))
    for entry in page.entries:
        fields = entry.fields
        what = " ".join(str(fields[name]) for name in ("kind", "phase") if name in fields)
        jobs = fields.get("jobs")
        named = [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []
        sales = ", ".join(str(job.get("external_id")) for job in named)
        at = None if entry.at_ms is None else readable_moment(entry.at_ms)
        add_row(
            rows, entry.number, at, fields.get("operator"), what,
            fields.get("count"), fields.get("operation") or sales or fields.get("tenant"), fields.get("reason"),
        )  # fmt: skip
    console().print(rows)
    if page.before is not None:
        warn(f"Older entries: --before {page.before}")
    return 0


def _as_json(entry: AuditEntry) -> dict[str, object]:
    return {"number": entry.number, "at": None if entry.at_ms is None else iso(entry.at_ms), **entry.fields}
