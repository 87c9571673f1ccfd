"""Plans, from a page or over the API: who may make which, and what each word does."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import redis

from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Principal, Refused
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act, Operator
from trackdesk_worker.ops.dead_letters.search import Search
from trackdesk_worker.ops.plans import DONE, Plan, Preview

Word = Literal["start", "pause", "resume", "cancel"]
COUNTED = 1000
"""Jobs of a plan whose present state is looked up for one page."""
PREVIEW_WITHIN_S = 0.5
"""A preview that has to read letters is for a person who waits; it says so when it has not seen all."""

_WORDS: Mapping[str, Callable[[redis.Redis, Keys, str, Operator], Plan]] = {
    "pause": plans.pause,
    "resume": plans.resume,
    "cancel": plans.cancel,
}


def preview(deployment: Deployment, wanted: Search) -> Preview:
    """Return what a plan over a search would mean now."""
    settings = deployment.settings
    return plans.preview(
        deployment.client,
        deployment.keys,
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
    """Freeze the list of a plan. Nothing happens to its jobs until it is started.

    Raises:
        Refused: the visitor may not discard.
    """
    _check(principal, act)
    return plans.create(
        deployment.client,
        deployment.keys,
        wanted,
        act=act,
        name=name,
        operator=Operator(principal.name, reason),
        expected=expected,
        dedupe_window_s=deployment.settings.dedupe_window_s,
    )


def say(
    deployment: Deployment,
    principal: Principal,
    plan_id: str,
    word: Word,
    *,
    reason: str = "",
    confirm_count: int | None = None,
) -> Plan:
    """Start, pause, resume or cancel a plan. Without a reason of its own, the plan's stands on record.

    Raises:
        Refused: the visitor may not discard.
    """
    plan = plans.read(deployment.client, deployment.keys, plan_id)
    _check(principal, plan.act)
    who = Operator(principal.name, reason.strip() or plan.reason)
    if word == "start":
        return plans.start(deployment.client, deployment.keys, plan_id, who, confirm_count=confirm_count)
    return _WORDS[word](deployment.client, deployment.keys, plan_id, who)


def moved_now(deployment: Deployment, plan: Plan) -> Counter[str]:
    """Return where jobs that the plan moved are now, of the first `COUNTED`; what is gone counts as forgotten."""
    if not plan.done:
        return Counter()
    found = plans.items(deployment.client, deployment.keys, plan.id, verdict=DONE[plan.act], limit=COUNTED)
    return Counter("forgotten" if item.state_now is None else item.state_now.value for item in found.items)


def _check(principal: Principal, act: Act) -> None:
    if act is Act.DISCARD and not principal.role.covers(Role.ADMIN):
        raise Refused(403, f"discarding needs the role admin; {principal.name} has the role {principal.role}")
