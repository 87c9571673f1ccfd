"""Endpoints for plans."""

from collections.abc import Callable

from trackdesk_worker.console import plan_actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.api import Call, Endpoint
from trackdesk_worker.console.api import models as m
from trackdesk_worker.console.api.jobs import search_of
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act
from trackdesk_worker.ops.timestamps import iso

_ACTIONS: tuple[tuple[plan_actions.PlanAction, str], ...] = (
    ("pause", "Pause a plan; jobs that have a verdict are not affected"),
    ("resume", "Resume a plan"),
    ("cancel", "Cancel a plan; jobs without a verdict stay dead letters"),
)


def _plans(deployment: Deployment, call: Call) -> m.Plans:
    limit = call.query.limit
    found = plans.recent(deployment.store, limit=limit + 1, after=call.query.after)
    shown = found[:limit]
    return m.Plans(plans=[_plan(plan) for plan in shown], after=shown[-1].id if len(found) > limit else None)


def _preview(deployment: Deployment, call: Call) -> m.PlanPreview:
    found = plan_actions.preview(deployment, search_of(deployment, call.body))
    return m.PlanPreview(
        jobs=found.jobs,
        money=plain_money(found.money),
        by_reason=dict(found.by_reason),
        by_tenant=dict(found.by_tenant),
        complete=found.complete,
        seconds_at_budget=found.seconds_at_budget,
        seconds_at_share=found.seconds_at_share,
    )


def _create(deployment: Deployment, call: Call) -> m.Plan:
    asked = call.body
    wanted = search_of(deployment, asked.filter)
    made = plan_actions.create(
        deployment,
        call.request.principal,
        wanted,
        act=Act(asked.act),
        name=asked.name,
        reason=asked.reason,
        expected=asked.expected,
    )
    return _plan(made)


def _read(deployment: Deployment, call: Call) -> m.Plan:
    return _plan(plans.read(deployment.store, call.path["plan"]))


def _items(deployment: Deployment, call: Call) -> m.PlanItems:
    asked = call.query
    found = plans.items(
        deployment.store,
        call.path["plan"],
        verdict=asked.verdict,
        limit=asked.limit,
        after=asked.after,
    )
    items = [
        m.PlanItem(
            id=item.job_id,
            tenant=item.tenant,
            external_id=item.external_id,
            verdict=item.verdict,
            at=iso(item.at_ms),
            state_now=item.state_now,
        )
        for item in found.items
    ]
    return m.PlanItems(items=items, after=found.cursor)


def _act(action: plan_actions.PlanAction) -> Callable[[Deployment, Call], m.Plan]:
    def handler(deployment: Deployment, call: Call) -> m.Plan:
        count = call.body.confirm_count if isinstance(call.body, m.PlanStart) else None
        reason = call.body.reason or ""
        return _plan(
            plan_actions.act_on(
                deployment, call.request.principal, call.path["plan"], action, reason=reason, confirm_count=count
            )
        )

    return handler


def _plan(plan: plans.Plan) -> m.Plan:
    return m.Plan(
        id=plan.id,
        name=plan.name,
        act="discard" if plan.act is Act.DISCARD else "redrive",
        state=plan.state,
        problem=plan.problem,
        operator=plan.operator,
        reason=plan.reason,
        filter=plan.filter,
        created_at=iso(plan.created_ms),
        started_at=None if plan.started_ms is None else iso(plan.started_ms),
        ended_at=None if plan.ended_ms is None else iso(plan.ended_ms),
        listed=plan.listed,
        decided=plan.decided,
        verdicts=dict(plan.verdicts),
        money_listed=plain_money(plan.money_listed),
        money_done=plain_money(plan.money_done),
        by_reason=dict(plan.by_reason),
        by_tenant=dict(plan.by_tenant),
    )


ENDPOINTS = (
    Endpoint("GET", "/plans", Role.VIEWER, "Plans, newest first", _plans, m.Plans, query=m.PlansQuery),
    Endpoint(
        "POST", "/plan-preview", Role.VIEWER, "Preview a plan for a filter", _preview, m.PlanPreview,
        body=m.Filter,
    ),
    Endpoint(
        "POST", "/plans", Role.OPERATOR, "Create a plan: freezes its list, changes no job; to discard requires admin",
        _create, m.Plan, body=m.PlanCreate,
    ),
    Endpoint("GET", "/plans/{plan}", Role.VIEWER, "One plan, with its progress", _read, m.Plan, refusals=(404,)),
    Endpoint(
        "GET", "/plans/{plan}/items", Role.VIEWER, "The jobs of a plan, with their verdicts", _items, m.PlanItems,
        query=m.PlanItemsQuery, refusals=(404,),
    ),
    Endpoint(
        "POST", "/plans/{plan}/start", Role.OPERATOR, "Start a plan", _act("start"), m.Plan,
        body=m.PlanStart, refusals=(404,),
    ),
    *(
        Endpoint(
            "POST", f"/plans/{{plan}}/{action}", Role.OPERATOR, summary, _act(action), m.Plan,
            body=m.PlanAction, refusals=(404,),
        )
        for action, summary in _ACTIONS
    ),
)  # fmt: skip
