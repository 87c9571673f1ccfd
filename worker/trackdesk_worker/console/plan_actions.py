"""Actions on plans, shared by the pages and the API, with their permissions."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Principal, Refused
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act, Operator
from trackdesk_worker.ops.plans import DONE, Plan, Preview
from trackdesk_worker.store.dead_letters.query import Search
from trackdesk_worker.store.job_store import JobStore

PlanAction = Literal["start", "pause", "resume", "cancel"]
COUNTED = 1000
"""Jobs of a plan whose current state one page reads."""
PREVIEW_WITHIN_S = 0.5
"""Time limit of a preview that has to read dead letters; beyond it the preview is partial."""

_ACTIONS: Mapping[str, Callable[[JobStore, str, Operator], Plan]] = {
    "pause": plans.pause,
    "resume": plans.resume,
    "cancel": plans.cancel,
}


def preview(deployment: Deployment, wanted: Search) -> Preview:
    """Return what a plan for a search would affect now."""
    settings = deployment.settings
    return plans.preview(
        deployment.store,
        wanted,
        rate_limit=settings.rate_limit,
        shares=settings.shares,
        within_s=PREVIEW_WITHIN_S,
    )


def create(
    deployment: Deployment,
    principal: Principal,
    wanted: Search,
    *,
    act: Act,
    name: str,
    reason: str,
    expected: int | None,
) -> Plan:
    """Create a plan with a frozen list. Its jobs do not change until it is started.

    Raises:
        Refused: the principal may not discard.
    """
    _check(principal, act)
    return plans.create(
        deployment.store,
        wanted,
        act=act,
        name=name,
        operator=Operator(principal.name, reason),
        expected=expected,
        dedupe_window_s=deployment.settings.dedupe_window_s,
    )


def act_on(
    deployment: Deployment,
    principal: Principal,
    plan_id: str,
    action: PlanAction,
    *,
    reason: str = "",
    confirm_count: int | None = None,
) -> Plan:
    """Start, pause, resume or cancel a plan. Without a reason, the audit log records the plan's.

    Raises:
        Refused: the principal may not discard.
    """
    plan = plans.read(deployment.store, plan_id)
    _check(principal, plan.act)
    who = Operator(principal.name, reason.strip() or plan.reason)
    if action == "start":
        return plans.start(deployment.store, plan_id, who, confirm_count=confirm_count)
    return _ACTIONS[action](deployment.store, plan_id, who)


def current_states(deployment: Deployment, plan: Plan) -> Counter[str]:
    """Count the current states of the first `COUNTED` jobs that the plan acted on; a deleted record is "pruned"."""
    if not plan.done:
        return Counter()
    found = plans.items(deployment.store, plan.id, verdict=DONE[plan.act], limit=COUNTED)
    return Counter("pruned" if item.state_now is None else item.state_now.value for item in found.items)


def _check(principal: Principal, act: Act) -> None:
    if act is Act.DISCARD and not principal.role.covers(Role.ADMIN):
        raise Refused(403, f"discarding needs the role admin; {principal.name} has the role {principal.role}")
