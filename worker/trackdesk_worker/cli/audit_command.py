"""``trackdesk audit``."""

import click

from trackdesk_worker.cli.options import json_option, open_session
from trackdesk_worker.cli.output import add_row, console, emit_json, table
from trackdesk_worker.domain.money import plain_money, readable_money
from trackdesk_worker.ops.audit import audit


@click.command("audit")
@click.option("--head", metavar="HASH", help="Head that an earlier audit printed; it must still be in the audit log.")
@json_option
def command(head: str | None, as_json: bool) -> int:
    """Check that records, indexes, books and the audit log agree; name each discrepancy and exit 1.

    Only reads. It may run during deliveries; sums over all records are compared if no job changed during the audit.
    """
    with open_session() as session:
        report = audit(session.store, sought_head=head)
    if as_json:
        emit_json(
            {
                "ok": report.ok,
                "discrepancies": [
                    {"kind": d.kind.value, "job_id": d.job_id, "tenant": d.tenant, "detail": d.detail}
                    for d in report.discrepancies
                ],
                "found": report.found,
                "records": report.records,
                "accepted": report.book.jobs["accepted"],
                "residual_jobs": report.book.residual_jobs,
                "residual_money": plain_money(report.book.residual_money),
                "rested": report.rested,
                "walks": report.walks,
                "orphaned_entries": report.orphaned_entries,
                "audit_entries": report.audit_entries,
                "audit_log_head": report.audit_log_head,
                "seconds": round(report.seconds, 3),
            }
        )
        return 0 if report.ok else 1
    if not report.ok:
        rows = table("what", "where", "detail")
        for found in report.discrepancies:
            add_row(rows, found.kind.value.replace("_", " "), found.job_id or found.tenant, found.detail)
        console().print(rows)
        if report.found > len(report.discrepancies):
            click.echo(f"... and {report.found - len(report.discrepancies):,} more")
    compared = (
        "" if report.rested else "; jobs changed during the audit, so the books were compared with the indexes only"
    )
    verdict = "everything agrees" if report.ok else f"{report.found:,} discrepancies"
    money = readable_money(report.book.money.get("accepted", {}))
    click.echo(
        f"{verdict}: {report.records:,} records, {report.book.jobs['accepted']:,} accepted ({money}), "
        f"{report.seconds:.1f} s{compared}"
    )
    if report.audit_entries:
        click.echo(f"audit log: {report.audit_entries:,} entries, head {report.audit_log_head}")
    return 0 if report.ok else 1
