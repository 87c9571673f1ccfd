"""Tenants: pace, drain time, why one stands still; pause and resume."""

from starlette.responses import Response

from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Visit
from trackdesk_worker.console.context import Context
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.pages.overview import busiest, standstills_of
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.audit_log import Operator, now_ms
from trackdesk_worker.ops.status import read_status

MOST = 200


def _tenants(context: Context, visit: Visit) -> Response:
    status = read_status(context.client, context.keys, context.lookout)
    find = visit.query.get("find", "").strip()[:64]
    shown = busiest(status, MOST, find)
    return page(
        visit,
        "tenants.html",
        status=status,
        tenants=shown,
        found=sum(1 for tenant in status.books if find in tenant),
        find=find,
        stands=standstills_of(status),
        now_ms=now_ms(context.client),
    )


def _pause(context: Context, visit: Visit) -> Response:
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    changed = tenant_actions.pause(context.client, context.keys, visit.form.get("tenant", ""), who)
    return go_to("/tenants", done="paused" if changed else "unchanged")


def _resume(context: Context, visit: Visit) -> Response:
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    changed = tenant_actions.resume(context.client, context.keys, visit.form.get("tenant", ""), who)
    return go_to("/tenants", done="resumed" if changed else "unchanged")


PAGES = (
    Page("GET", "/tenants", Role.VIEWER, _tenants),
    Page("POST", "/tenants/pause", Role.OPERATOR, _pause),
    Page("POST", "/tenants/resume", Role.OPERATOR, _resume),
)
