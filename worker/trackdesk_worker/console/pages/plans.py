"""Plans: preview, create, start, watch, pause, resume, cancel."""

from starlette.responses import Response

from trackdesk_worker.console import plan_actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.filters import carried, in_address, read_filter
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act
from trackdesk_worker.ops.plans import DONE

SIZE = 50
WATCHED = ("listing", "running")
"""States in which a plan's page refreshes."""


def count_of(text: str | None) -> int | None:
    """Parse a typed number, with or without separators; None if it is empty.

    Raises:
        Refused: it is not a number.
    """
    digits = (text or "").replace(",", "").replace(" ", "")
    if not digits:
        return None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise Refused(400, "enter the number of jobs in digits; nothing was changed")
    return int(digits)


def _plans(deployment: Deployment, request: RequestContext) -> Response:
    found = plans.recent(deployment.store, limit=SIZE + 1, after=request.query.get("after"))
    shown = found[:SIZE]
    after = shown[-1].id if len(found) > SIZE else None
    return page(request, "plans.html", plans=shown, after=after, done=DONE, now_ms=deployment.store.time_ms())


def _new(deployment: Deployment, request: RequestContext) -> Response:
    wanted = read_filter(in_address(request), now_ms=deployment.store.time_ms())
    return page(
        request,
        "plan_new.html",
        filter=wanted,
        fixed=wanted.fixed,
        preview=plan_actions.preview(deployment, wanted.search),
        may_discard=request.principal.role.covers(Role.ADMIN),
    )


def _create(deployment: Deployment, request: RequestContext) -> Response:
    wanted = read_filter(carried(request), now_ms=deployment.store.time_ms())
    act = request.form.get("act", "redrive")
    if act not in (Act.REDRIVE, Act.DISCARD):
        raise Refused(400, "the action must be redrive or discard")
    made = plan_actions.create(
        deployment,
        request.principal,
        wanted.search,
        act=Act(act),
        name=request.form.get("name", ""),
        reason=request.form.get("reason", ""),
        expected=count_of(request.form.get("expected")),
    )
    return go_to("/plan", id=made.id, done="created")


def _plan(deployment: Deployment, request: RequestContext) -> Response:
    plan = plans.read(deployment.store, request.query.get("id", ""))
    verdict = request.query.get("verdict")
    found = plans.items(deployment.store, plan.id, verdict=verdict, limit=SIZE, after=request.query.get("after"))
    return page(
        request,
        "plan.html",
        plan=plan,
        items=found.items,
        after=found.cursor,
        verdict=verdict,
        done_word=DONE[plan.act],
        current_states=plan_actions.current_states(deployment, plan),
        counted=plan_actions.COUNTED,
        watched=plan.state in WATCHED,
        may_act=request.principal.role.covers(Role.ADMIN if plan.act is Act.DISCARD else Role.OPERATOR),
        now_ms=deployment.store.time_ms(),
    )


def _start(deployment: Deployment, request: RequestContext) -> Response:
    return _act(deployment, request, "start", "started")


def _pause(deployment: Deployment, request: RequestContext) -> Response:
    return _act(deployment, request, "pause", "plan-paused")


def _resume(deployment: Deployment, request: RequestContext) -> Response:
    return _act(deployment, request, "resume", "plan-resumed")


def _cancel(deployment: Deployment, request: RequestContext) -> Response:
    return _act(deployment, request, "cancel", "plan-cancelled")


def _act(deployment: Deployment, request: RequestContext, action: plan_actions.PlanAction, notice: str) -> Response:
    plan_id = request.form.get("id", "")
    count = count_of(request.form.get("confirm"))
    plan_actions.act_on(
        deployment, request.principal, plan_id, action, reason=request.form.get("reason", ""), confirm_count=count
    )
    return go_to("/plan", id=plan_id, done=notice)


PAGES = (
    Page("GET", "/plans", Role.VIEWER, _plans),
    Page("GET", "/plans/new", Role.OPERATOR, _new),
    Page("POST", "/plans", Role.OPERATOR, _create),
    Page("GET", "/plan", Role.VIEWER, _plan),
    Page("POST", "/plan/start", Role.OPERATOR, _start),
    Page("POST", "/plan/pause", Role.OPERATOR, _pause),
    Page("POST", "/plan/resume", Role.OPERATOR, _resume),
    Page("POST", "/plan/cancel", Role.OPERATOR, _cancel),
)
