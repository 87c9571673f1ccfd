"""The audit log: who did what, to how many sales, for how much money, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from starlette.responses import Response, StreamingResponse

from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import page
from trackdesk_worker.domain.money import readable_money
from trackdesk_worker.ops.audit_log import AuditEntry, read_page, walk_entries

SIZE = 50
JOBS_NAMED = 5
SHOWN = ("kind", "at_ms", "operator", "reason", "count", "money", "jobs", "phase", "operation", "prev", "hash")
"""Fields that have a column, or that the table leaves out."""


def before_of(text: str | None) -> int | None:
    """Return the entry number before which a page of the log ends.

    Raises:
        Refused: it is not a number.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 12):
        raise Refused(400, "before must be the number of a log entry")
    return int(text)


@dataclass(frozen=True, slots=True)
class LogRow:
    """One entry of the log as text, also an altered one."""

    number: int
    at_ms: int | None
    operator: str
    kind: str
    phase: str
    reason: str
    count: str
    money: tuple[str, ...]
    jobs: tuple[tuple[str, str], ...]
    """Tenant and externalId of the first `JOBS_NAMED` jobs."""
    more_jobs: int
    plan: str | None
    more: Mapping[str, str]


def log_row(entry: AuditEntry) -> LogRow:
    """Convert one entry."""
    fields = entry.fields
    count, money, jobs, operation = (fields.get(name) for name in ("count", "money", "jobs", "operation"))
    named = [job for job in jobs if isinstance(job, Mapping)] if isinstance(jobs, list) else []
    return LogRow(
        number=entry.number,
        at_ms=entry.at_ms,
        operator=str(fields.get("operator", "–")),
        kind=str(fields.get("kind", "–")),
        phase=str(fields.get("phase", "")),
        reason=str(fields.get("reason", "–")),
        count=f"{count:,}" if isinstance(count, int) else "",
        money=tuple(_sum(name, value) for name, value in money.items()) if isinstance(money, Mapping) else (),
        jobs=tuple((str(job.get("tenant", "")), str(job.get("external_id", ""))) for job in named[:JOBS_NAMED]),
        more_jobs=max(0, len(named) - JOBS_NAMED),
        plan=operation if isinstance(operation, str) and operation.startswith("plan-") else None,
        more={name: _text(value) for name, value in fields.items() if name not in SHOWN},
    )


def _log(deployment: Deployment, request: RequestContext) -> Response:
    found = read_page(deployment.store, before=before_of(request.query.get("before")), limit=SIZE)
    rows = [log_row(entry) for entry in found.entries]
    return page(request, "log.html", rows=rows, before=found.before, now_ms=deployment.store.time_ms())


def _sum(currency: str, value: object) -> str:
    try:
        return readable_money({currency: Decimal(str(value))})
    except ArithmeticError:
        return f"{value} {currency}"


def _text(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(_text(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return str(value)


def _export(deployment: Deployment, _: RequestContext) -> Response:
    lines = (raw + b"\n" for raw in walk_entries(deployment.store))
    headers = {"Content-Disposition": 'attachment; filename="trackdesk-audit-log.jsonl"'}
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=headers)


PAGES = (
    Page("GET", "/log", Role.VIEWER, _log),
    Page("GET", "/log/export", Role.OPERATOR, _export),
)
