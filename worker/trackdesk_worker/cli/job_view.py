"""One job as `show` and `dead show` print it."""

from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console

from trackdesk_producer.contract.record import NO_CURRENCY
from trackdesk_producer.contract.trace import trace_id_of
from trackdesk_worker.cli.options import open_session
from trackdesk_worker.cli.output import add_row, console, emit_json, facts, table
from trackdesk_worker.domain.money import in_doubt, plain_amount, readable_money
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.job_detail import JobDetail, flat_text, moments, read_job
from trackdesk_worker.ops.lookup import find_job
from trackdesk_worker.ops.remedies import remedy
from trackdesk_worker.ops.timestamps import iso, readable_moment


def print_job(
    external_id: str,
    *,
    tenant: str | None,
    conversion_type: str | None,
    reveal_to: Operator | None,
    as_json: bool,
) -> JobDetail:
    """Find a sale, print it and return it."""
    with open_session() as session:
        identity = find_job(
            session.store,
            external_id,
            tenant=tenant or session.settings.tenant,
            conversion_type=conversion_type,
        )
        detail = read_job(session.store, identity, reveal_to=reveal_to)
    if as_json:
        emit_json(_as_json(detail))
    else:
        _print(console(), detail)
    return detail


def _as_json(detail: JobDetail) -> dict[str, Any]:
    record = detail.record
    currency = None if record.currency == NO_CURRENCY else record.currency
    return {
        "tenant": record.tenant,
        "external_id": record.external_id,
        "job_id": record.id,
        "state": record.state.value,
        "reason": record.reason,
        "amount": None if record.amount is None else plain_amount(record.amount, currency),
        "currency": currency,
        **{f"{name.removesuffix('_since')}_at": iso(at_ms) for name, at_ms in moments(record).items()},
        "attempts": record.attempts_total,
        "attempts_in_budget": record.attempts,
        "may_have_landed": record.ambiguous,
        "in_doubt": list(in_doubt(record)),
        "redrives": record.redrives,
        "trace_id": trace_id_of(record.trace),
        "conversion": detail.conversion,
        "history": [{**entry, "at": iso(int(entry["at_ms"]))} for entry in detail.history],
        "remedy": remedy(record.reason or "") if detail.dead else None,
    }


def _print(to: Console, detail: JobDetail) -> None:
    record = detail.record
    state = record.state.value.replace("_", " ")
    to.print(
        facts(
            {
                "externalId": record.external_id,
                "tenant": record.tenant,
                "state": state if record.reason is None else f"{state} ({record.reason})",
                "money": None if record.amount is None else readable_money({record.currency or "": record.amount}),
                **{f"{name.replace('_', ' ')} (UTC)": readable_moment(at) for name, at in moments(record).items()},
                "attempts": record.attempts_total,
                "redrives": record.redrives or None,
                "trace": trace_id_of(record.trace),
                "may have landed": "yes: an attempt ended without an answer after it was sent"
                if record.ambiguous
                else None,
                "in doubt": ", ".join(in_doubt(record)) or None,
                "what to do": remedy(record.reason or "") if detail.dead else None,
            }
        )
    )
    if detail.conversion is not None:
        to.print()
        to.print(facts(flat_text(detail.conversion, ", "), title="Conversion"))
    if detail.history:
        rows = table(
            "when (UTC)",
            "what",
            "outcome",
            "status",
            "code",
            "ms",
            "answer",
            title="History",
            right=("status", "code", "ms"),
        )
        for entry in detail.history:
            add_row(rows, readable_moment(int(entry["at_ms"])), *_row(entry))
        to.print()
        to.print(rows)
    if record.state.terminal:
        click.echo("\nDetails are deleted after a sale has ended.")


def _row(entry: Mapping[str, Any]) -> tuple[object, ...]:
    if entry.get("kind") != "attempt":
        changes = [f"{c.get('field')}: {c.get('before')} → {c.get('after')}" for c in entry.get("changes", [])]
        detail = ", ".join(changes) or entry.get("operation")
        return (f"{entry.get('kind')} by {entry.get('operator')}", entry.get("reason"), None, None, None, detail)
    outcome = f"{entry.get('outcome')}: {entry.get('reason')}"
    if entry.get("ambiguous"):
        outcome += ", may have landed"
    attempt = f"attempt {entry.get('attempt')}"
    return (attempt, outcome, entry.get("status"), entry.get("code"), entry.get("duration_ms"), entry.get("excerpt"))
