"""One job: its facts, its history and the actions on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from trackdesk_producer.contract.record import State
from trackdesk_worker.console import actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.domain.money import in_doubt
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.job_detail import JobDetail, flat_text, moments, read_job
from trackdesk_worker.ops.lookup import SaleUnknown, find_job
from trackdesk_worker.ops.remedies import remedy


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row of a job's history: an attempt or an operator's action."""

    at_ms: int | None
    attempt: str | None
    outcome: str
    may_have_landed: bool
    status: str
    code: str
    duration_ms: str
    excerpt: str
    act: str
    operator: str
    reason: str
    operation: str


def history_row(entry: Mapping[str, Any]) -> HistoryRow:
    """Parse one entry of a history; missing values become a dash."""

    def word(name: str) -> str:
        value = entry.get(name)
        return "–" if value is None else str(value)

    at_ms, attempt = entry.get("at_ms"), entry.get("kind") == "attempt"
    return HistoryRow(
        at_ms=at_ms if isinstance(at_ms, int) else None,
        attempt=word("attempt") if attempt else None,
        outcome=word("outcome"),
        may_have_landed=bool(entry.get("ambiguous")),
        status=word("status"),
        code=word("code"),
        duration_ms=word("duration_ms"),
        excerpt=str(entry.get("excerpt") or ""),
        act=word("kind"),
        operator=word("operator"),
        reason=word("reason"),
        operation=str(entry.get("operation") or ""),
    )


def _find(deployment: Deployment, request: RequestContext) -> Response:
    wanted = request.query.get("q", "").strip()
    if not wanted:
        raise Refused(400, "enter the externalId of a sale")
    if len(wanted) > actions.MAX_IDENTITY:
        raise Refused(400, f"an externalId has at most {actions.MAX_IDENTITY} characters")
    tenant = request.query.get("tenant")
    try:
        identity = find_job(deployment.store, wanted, tenant=tenant, conversion_type=None)
    except SaleUnknown:
        return go_to("/dead", external_id=wanted, tenant=tenant, state="any")
    return go_to("/job", id=identity)


def _job(deployment: Deployment, request: RequestContext) -> Response:
    return _show(deployment, request, read_job(deployment.store, actions.identity_of(request.query.get("id"))))


def _reveal(deployment: Deployment, request: RequestContext) -> Response:
    who = Operator(request.principal.name, request.form.get("reason", ""))
    detail = read_job(deployment.store, actions.identity_of(request.form.get("id")), reveal_to=who)
    return _show(deployment, request, detail, revealed=True)


def _show(deployment: Deployment, request: RequestContext, detail: JobDetail, *, revealed: bool = False) -> Response:
    record = detail.record
    return page(
        request,
        "job.html",
        job=record,
        moments={name.replace("_", " ").capitalize(): at_ms for name, at_ms in moments(record).items()},
        in_doubt=in_doubt(record),
        conversion=None if detail.conversion is None else flat_text(detail.conversion, ", "),
        history=[history_row(entry) for entry in detail.history],
        remedy=remedy(record.reason or "") if detail.dead else None,
        revealed=revealed,
        may_act=request.principal.role.covers(Role.OPERATOR),
        may_discard=request.principal.role.covers(Role.ADMIN),
        may_cancel=record.state in (State.READY, State.SCHEDULED) and not record.ambiguous,
        now_ms=deployment.store.time_ms(),
    )


def _redrive(deployment: Deployment, request: RequestContext) -> Response:
    identity = actions.identity_of(request.form.get("id"))
    actions.redrive(deployment, identity, Operator(request.principal.name, request.form.get("reason", "")))
    return go_to("/job", id=identity, done="redriven")


def _discard(deployment: Deployment, request: RequestContext) -> Response:
    identity = actions.identity_of(request.form.get("id"))
    who = Operator(request.principal.name, request.form.get("reason", ""))
    actions.discard(deployment, identity, who, confirmed=request.form.get("confirm", ""))
    return go_to("/job", id=identity, done="discarded")


def _cancel(deployment: Deployment, request: RequestContext) -> Response:
    identity = actions.identity_of(request.form.get("id"))
    actions.cancel(deployment, identity, Operator(request.principal.name, request.form.get("reason", "")))
    return go_to("/job", id=identity, done="cancelled")


PAGES = (
    Page("GET", "/find", Role.VIEWER, _find),
    Page("GET", "/job", Role.VIEWER, _job),
    Page("POST", "/job/reveal", Role.OPERATOR, _reveal),
    Page("POST", "/job/redrive", Role.OPERATOR, _redrive),
    Page("POST", "/job/cancel", Role.OPERATOR, _cancel),
    Page("POST", "/job/discard", Role.ADMIN, _discard),
)
