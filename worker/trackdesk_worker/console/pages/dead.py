"""Dead letters and other jobs: searched, sorted and paged; and by cause, with what to do about each."""

from collections.abc import Mapping

from starlette.responses import Response

from trackdesk_producer.contract.record import State
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, Visit
from trackdesk_worker.console.context import Context
from trackdesk_worker.console.exporting import exported
from trackdesk_worker.console.filters import PERSONAL, Filter, carried, in_address, read_filter
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import address, page
from trackdesk_worker.ops.audit_log import Operator, now_ms
from trackdesk_worker.ops.dead_letters.export import Form
from trackdesk_worker.ops.dead_letters.search import Cluster, clusters, search
from trackdesk_worker.ops.lookup import tenants_of

SIZE = 50
TENANTS_OFFERED = 500
SEVERAL = "*"
"""The type of a cluster of types that are too long or too many to be told apart."""


def _dead(context: Context, visit: Visit) -> Response:
    return _list(context, visit, in_address(visit))


def _person(context: Context, visit: Visit) -> Response:
    """The same by click or customer: a form that is sent, so that nobody's id stands in an address."""
    return _list(context, visit, visit.form, by_person={name: visit.form.get(name, "") for name in PERSONAL})


def _list(
    context: Context, visit: Visit, given: Mapping[str, str], by_person: Mapping[str, str] | None = None
) -> Response:
    now = now_ms(context.client)
    wanted = read_filter(given, now_ms=now)
    found = search(context.client, context.keys, wanted.search, limit=SIZE, after=given.get("after"))
    return page(
        visit,
        "dead.html",
        filter=wanted,
        found=found,
        after=found.cursor,
        next=None if found.cursor is None else address("/dead", **wanted.fixed, after=found.cursor),
        first=given.get("after") is None,
        person=by_person,
        tenants=tenants_of(context.client, context.keys)[:TENANTS_OFFERED],
        states=list(State),
        narrows=narrows(wanted),
        may_export=visit.who.role.covers(Role.ADMIN),
        now_ms=now,
    )


def _clusters(context: Context, visit: Visit) -> Response:
    now = now_ms(context.client)
    wanted = read_filter(in_address(visit), now_ms=now)
    found = clusters(context.client, context.keys, wanted.search)
    return page(
        visit,
        "clusters.html",
        filter=wanted,
        found=found,
        rows=[(row, meant_by(row, wanted)) for row in found.rows],
        tenants=tenants_of(context.client, context.keys)[:TENANTS_OFFERED],
        now_ms=now,
    )


def _export(context: Context, visit: Visit) -> Response:
    form = visit.form.get("format", "")
    if form not in set(Form):
        raise Refused(400, f"the format is one of {', '.join(Form)}")
    wanted = read_filter(carried(visit), now_ms=now_ms(context.client))
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    return exported(context, wanted.search, who, Form(form))


def meant_by(row: Cluster, wanted: Filter) -> dict[str, str]:
    """Return what an address says to mean one cluster of a filter."""
    meant = {"tenant": row.tenant, "reason": row.reason}
    if row.conversion_type != SEVERAL:
        meant["type"] = row.conversion_type
    if row.http_status is not None:
        meant["status"] = str(row.http_status)
    return {**wanted.fixed, **meant}


def narrows(wanted: Filter) -> bool:
    """Return whether the filter says more than the state and the order."""
    return bool(wanted.given.keys() - {"state", "order"})


PAGES = (
    Page("GET", "/dead", Role.VIEWER, _dead),
    Page("POST", "/dead/person", Role.OPERATOR, _person),
    Page("POST", "/dead/export", Role.ADMIN, _export),
    Page("GET", "/clusters", Role.VIEWER, _clusters),
)
