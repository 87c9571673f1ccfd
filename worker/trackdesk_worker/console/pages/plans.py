"""Plans: previewed, made, started, watched, paused, resumed, cancelled."""

from starlette.responses import Response

from trackdesk_worker.console import plan_actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, Visit
from trackdesk_worker.console.context import Context
from trackdesk_worker.console.filters import carried, in_address, read_filter
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act, now_ms
from trackdesk_worker.ops.plans import DONE

SIZE = 50
WATCHED = ("listing", "running")
"""States in which a plan's page refreshes itself."""


def count_of(text: str | None) -> int | None:
    """Return a number that was typed, with or without separators; None for nothing.

    Raises:
        Refused: it is no number.
    """
    digits = (text or "").replace(",", "").replace(" ", "")
    if not digits:
        return None
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        raise Refused(400, "type the number of jobs in digits; nothing was changed")
    return int(digits)


def _plans(context: Context, visit: Visit) -> Response:
    found = plans.recent(context.client, context.keys, limit=SIZE + 1, after=visit.query.get("after"))
    shown = found[:SIZE]
    after = shown[-1].id if len(found) > SIZE else None
    return page(visit, "plans.html", plans=shown, after=after, done=DONE, now_ms=now_ms(context.client))


def _new(context: Context, visit: Visit) -> Response:
    wanted = read_filter(in_address(visit), now_ms=now_ms(context.client))
    return page(
        visit,
        "plan_new.html",
        filter=wanted,
        fixed=wanted.fixed,
        preview=plan_actions.preview(context, wanted.search),
        may_discard=visit.who.role.covers(Role.ADMIN),
    )


def _create(context: Context, visit: Visit) -> Response:
    wanted = read_filter(carried(visit), now_ms=now_ms(context.client))
    act = visit.form.get("act", "redrive")
    if act not in (Act.REDRIVE, Act.DISCARD):
        raise Refused(400, "a plan redrives or discards")
    made = plan_actions.create(
        context,
        visit.who,
        wanted.search,
        act=Act(act),
        name=visit.form.get("name", ""),
        reason=visit.form.get("reason", ""),
        expected=count_of(visit.form.get("expected")),
    )
    return go_to("/plan", id=made.id, done="created")


def _plan(context: Context, visit: Visit) -> Response:
    plan = plans.read(context.client, context.keys, visit.query.get("id", ""))
    verdict = visit.query.get("verdict")
    found = plans.items(
        context.client, context.keys, plan.id, verdict=verdict, limit=SIZE, after=visit.query.get("after")
    )
    return page(
        visit,
        "plan.html",
        plan=plan,
        items=found.items,
        after=found.cursor,
        verdict=verdict,
        done_word=DONE[plan.act],
        moved_now=plan_actions.moved_now(context, plan),
        counted=plan_actions.COUNTED,
        watched=plan.state in WATCHED,
        may_act=visit.who.role.covers(Role.ADMIN if plan.act is Act.DISCARD else Role.OPERATOR),
        now_ms=now_ms(context.client),
    )


def _start(context: Context, visit: Visit) -> Response:
    return _say(context, visit, "start", "started")


def _pause(context: Context, visit: Visit) -> Response:
    return _say(context, visit, "pause", "plan-paused")


def _resume(context: Context, visit: Visit) -> Response:
    return _say(context, visit, "resume", "plan-resumed")


def _cancel(context: Context, visit: Visit) -> Response:
    return _say(context, visit, "cancel", "plan-cancelled")


def _say(context: Context, visit: Visit, word: plan_actions.Word, said: str) -> Response:
    plan_id = visit.form.get("id", "")
    count = count_of(visit.form.get("confirm"))
    plan_actions.say(context, visit.who, plan_id, word, reason=visit.form.get("reason", ""), confirm_count=count)
    return go_to("/plan", id=plan_id, done=said)


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
