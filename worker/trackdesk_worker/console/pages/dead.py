"""Lists of dead letters and other jobs, dead letters by cause, and the export."""

from collections.abc import Mapping

from starlette.responses import Response

from trackdesk_producer.contract.record import State
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.exporting import exported
from trackdesk_worker.console.filters import Filter, carried, in_address, read_filter
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import address, page
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.by_cause import CauseSummary, dead_by_cause
from trackdesk_worker.ops.dead_letters.export import Form
from trackdesk_worker.ops.dead_letters.filters import PERSONAL_FIELDS
from trackdesk_worker.ops.dead_letters.search import search

SIZE = 50
TENANTS_OFFERED = 500
SEVERAL = "*"
"""Group of conversion types that are too long or too many to list."""


def _dead(deployment: Deployment, request: RequestContext) -> Response:
    return _list(deployment, request, in_address(request))


def _by_person(deployment: Deployment, request: RequestContext) -> Response:
    """Search by click or customer. A POST, so that personal data appears in no URL."""
    return _list(
        deployment, request, request.form, by_person={name: request.form.get(name, "") for name in PERSONAL_FIELDS}
    )


def _list(
    deployment: Deployment,
    request: RequestContext,
    given: Mapping[str, str],
    by_person: Mapping[str, str] | None = None,
) -> Response:
    now = deployment.store.time_ms()
    wanted = read_filter(given, now_ms=now)
    found = search(deployment.store, wanted.search, limit=SIZE, after=given.get("after"))
    return page(
        request,
        "dead.html",
        filter=wanted,
        found=found,
        after=found.cursor,
        next=None if found.cursor is None else address("/dead", **wanted.fixed, after=found.cursor),
        first=given.get("after") is None,
        person=by_person,
        tenants=deployment.store.tenants()[:TENANTS_OFFERED],
        states=list(State),
        narrows=narrows(wanted),
        may_export=request.principal.role.covers(Role.ADMIN),
        now_ms=now,
    )


def _causes(deployment: Deployment, request: RequestContext) -> Response:
    now = deployment.store.time_ms()
    wanted = read_filter(in_address(request), now_ms=now)
    found = dead_by_cause(deployment.store, wanted.search)
    return page(
        request,
        "causes.html",
        filter=wanted,
        found=found,
        rows=[(row, cause_query(row, wanted)) for row in found.rows],
        tenants=deployment.store.tenants()[:TENANTS_OFFERED],
        now_ms=now,
    )


def _export(deployment: Deployment, request: RequestContext) -> Response:
    form = request.form.get("format", "")
    if form not in set(Form):
        raise Refused(400, f"the format is one of {', '.join(Form)}")
    wanted = read_filter(carried(request), now_ms=deployment.store.time_ms())
    who = Operator(request.principal.name, request.form.get("reason", ""))
    return exported(deployment, wanted.search, who, Form(form))


def cause_query(row: CauseSummary, wanted: Filter) -> dict[str, str]:
    """Return the URL parameters that select one cause within a filter."""
    query = {"tenant": row.tenant, "reason": row.reason}
    if row.conversion_type != SEVERAL:
        query["type"] = row.conversion_type
    if row.http_status is not None:
        query["status"] = str(row.http_status)
    return {**wanted.fixed, **query}


def narrows(wanted: Filter) -> bool:
    """Return whether the filter has more than a state and an order."""
    return bool(wanted.given.keys() - {"state", "order"})


PAGES = (
    Page("GET", "/dead", Role.VIEWER, _dead),
    Page("POST", "/dead/person", Role.OPERATOR, _by_person),
    Page("POST", "/dead/export", Role.ADMIN, _export),
    Page("GET", "/causes", Role.VIEWER, _causes),
)
