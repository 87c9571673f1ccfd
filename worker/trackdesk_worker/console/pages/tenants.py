"""Tenants: budget, drain time and blocks; pause and resume."""

from starlette.responses import Response

from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.pages.overview import blocked_of, busiest
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.status import read_status

MOST = 200


def _tenants(deployment: Deployment, request: RequestContext) -> Response:
    status = read_status(deployment.store, deployment.forecaster)
    find = request.query.get("find", "").strip()[:64]
    shown = busiest(status, MOST, find)
    return page(
        request,
        "tenants.html",
        status=status,
        tenants=shown,
        found=sum(1 for tenant in status.books if find in tenant),
        find=find,
        blocked=blocked_of(status),
        now_ms=deployment.store.time_ms(),
    )


def _pause(deployment: Deployment, request: RequestContext) -> Response:
    who = Operator(request.principal.name, request.form.get("reason", ""))
    changed = tenant_actions.pause(deployment.store, request.form.get("tenant", ""), who)
    return go_to("/tenants", done="paused" if changed else "unchanged")


def _resume(deployment: Deployment, request: RequestContext) -> Response:
    who = Operator(request.principal.name, request.form.get("reason", ""))
    changed = tenant_actions.resume(deployment.store, request.form.get("tenant", ""), who)
    return go_to("/tenants", done="resumed" if changed else "unchanged")


PAGES = (
    Page("GET", "/tenants", Role.VIEWER, _tenants),
    Page("POST", "/tenants/pause", Role.OPERATOR, _pause),
    Page("POST", "/tenants/resume", Role.OPERATOR, _resume),
)
