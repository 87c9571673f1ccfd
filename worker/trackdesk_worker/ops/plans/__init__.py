"""Plans: redrive or discard many dead letters. Create, review, start, follow, pause, resume or cancel.

The list is frozen before any job changes, every job gets a verdict, and the verdicts add up to the jobs listed. Plans
run in the workers' maintenance; `follow` also runs the plan that it watches, so that no worker is needed. Each action
is in the audit log, linked by the plan's id.
"""

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trackdesk_producer.contract.record import State, external_id_of, tenant_of
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.ops.audit_log import Act, Operator, entry_of
from trackdesk_worker.ops.dead_letters.by_cause import summary
from trackdesk_worker.ops.plans.preview import Preview, preview, seconds_at_budget
from trackdesk_worker.ops.plans.views import (
    DONE,
    Item,
    Items,
    Plan,
    PlanInvalid,
    PlanUnknown,
    PlanUnreadable,
    items,
    read,
    recent,
)
from trackdesk_worker.store import plans as stored
from trackdesk_worker.store.dead_letters.query import Search
from trackdesk_worker.store.job_store import JobStore

__all__ = [
    "DONE",
    "MAX_NAME",
    "Item",
    "Items",
    "Plan",
    "PlanEmpty",
    "PlanInvalid",
    "PlanUnknown",
    "PlanUnreadable",
    "Preview",
    "act_on_one",
    "cancel",
    "create",
    "finish_listing",
    "follow",
    "items",
    "pause",
    "preview",
    "read",
    "recent",
    "resume",
    "seconds_at_budget",
    "start",
]

MAX_NAME = 120
MAX_NAMED = 10_000
"""Most jobs that a plan names one by one; more need a filter."""
NAMED_ON_RECORD = 100
"""Of these, as many are named in the audit log."""
FOLLOW_EVERY_S = 0.25


class PlanEmpty(PlanInvalid):
    """The filter matches nothing."""


def create(
    store: JobStore,
    wanted: Search | Sequence[str],
    *,
    act: Act,
    name: str,
    operator: Operator,
    expected: int | None = None,
    limit: int | None = None,
    dedupe_window_s: int = 0,
) -> Plan:
    """Create a plan over a filter of dead letters, or over jobs named by id, and begin its list.

    Args:
        name: after its incident, for people.
        expected: number of jobs in the preview; refused if it differs now.
        limit: at most so many, the oldest first.
        dedupe_window_s: how long a discarded sale stays known; required to discard.

    Raises:
        PlanInvalid: the message says what to change; nothing was stored.
    """
    name = _checked_name(name)
    if act not in DONE or (act is Act.DISCARD and dedupe_window_s <= 0):
        raise PlanInvalid("a plan redrives, or discards with a dedupe window")
    ids = () if isinstance(wanted, Search) else tuple(dict.fromkeys(wanted))
    if len(ids) > MAX_NAMED:
        raise PlanInvalid(f"{len(ids):,} sales are too many to name one by one: use a filter")
    plan_id = f"plan-{secrets.token_hex(6)}"
    fields = {
        "act": act.value,
        "name": name,
        "operator": operator.name,
        "reason": operator.reason,
        "filter": "named",
        "window_ms": str(dedupe_window_s * 1000),
        "limit": "" if limit is None else str(limit),
    }
    count = len(ids)
    if isinstance(wanted, Search):
        found = summary(store, wanted)  # refuses a search that is not about dead letters
        if found.complete and not found.jobs:
            raise PlanEmpty("no dead letter matches")
        count = found.jobs if limit is None else min(limit, found.jobs)
        if expected is not None and found.complete and count != expected:
            raise PlanInvalid(f"{count:,} dead letters match now, not {expected:,}: review them again")
        wanted = replace(wanted, state=State.DEAD)
        fields |= {"filter": str(wanted), "search": stored.dump_search(wanted)}
    about: dict[str, Any] = {"phase": "created", "operation": plan_id, "name": name, "filter": fields["filter"]}
    named = [{"tenant": tenant_of(i), "external_id": external_id_of(i)} for i in ids[:NAMED_ON_RECORD]]
    entry = entry_of(store, act, operator, count=count, **about, jobs=named or None)
    if not stored.create(store, plan_id, fields, ids, entry=json.dumps(entry, ensure_ascii=False)):
        raise PlanInvalid(
            f"{stored.OPEN_AT_MOST} plans are open: start or cancel one of them, `trackdesk plan list` shows them"
        )
    stored.step(store, plan_id, rate_us=0)
    stored.record_acts(store)
    return read(store, plan_id)


def finish_listing(store: JobStore, plan_id: str, *, progress: Callable[[Plan], None] = lambda _: None) -> Plan:
    """Complete the list, alongside the workers; return the plan with its frozen list.

    Raises:
        PlanInvalid: if the list cannot be made; no job changed.
    """
    while True:
        did = stored.step(store, plan_id, rate_us=0) if _state(store, plan_id) == "listing" else None
        if did is None or did.problem is not None:
            plan = read(store, plan_id)
            if plan.state == "failed":
                stored.record_acts(store)
                raise PlanInvalid(
                    f"the list of {plan_id} could not be made ({plan.problem}). No sale was changed; narrow the filter"
                )
            return plan
        progress(read(store, plan_id))


def act_on_one(store: JobStore, job_id: str, *, act: Act, operator: Operator, dedupe_window_s: int = 0) -> Plan:
    """Redrive or discard one job immediately; its verdict is the plan's only one."""
    made = create(
        store, [job_id], act=act, name=_one_named(job_id), operator=operator,
        dedupe_window_s=dedupe_window_s,
    )  # fmt: skip
    plan = finish_listing(store, made.id)
    start(store, plan.id, operator, confirm_count=plan.listed)
    return follow(store, plan.id, rate_limit=0)


def start(store: JobStore, plan_id: str, operator: Operator, *, confirm_count: int | None = None) -> Plan:
    """Start a plan. A discard needs the number of its jobs.

    Raises:
        PlanInvalid: if it is not ready, or the number is wrong.
        PlanUnknown: if there is none.
    """
    plan = read(store, plan_id)
    if plan.act is Act.DISCARD and confirm_count is None:
        raise PlanInvalid(f"to discard, confirm the number of jobs: {plan.listed}")
    return _transition(store, plan, "start", "started", operator, confirm_count)


def pause(store: JobStore, plan_id: str, operator: Operator) -> Plan:
    """Pause a running plan. Jobs that have a verdict are not affected.

    Raises:
        PlanInvalid: if it is not running.
        PlanUnknown: if there is none.
    """
    return _transition(store, read(store, plan_id), "pause", "paused", operator)


def resume(store: JobStore, plan_id: str, operator: Operator) -> Plan:
    """Resume a paused plan.

    Raises:
        PlanInvalid: if it is not paused.
        PlanUnknown: if there is none.
    """
    return _transition(store, read(store, plan_id), "resume", "resumed", operator)


def cancel(store: JobStore, plan_id: str, operator: Operator) -> Plan:
    """Cancel a plan: jobs without a verdict stay dead letters, with the verdict ``cancelled``.

    Raises:
        PlanInvalid: if it has ended.
        PlanUnknown: if there is none.
    """
    return _transition(store, read(store, plan_id), "cancel", "cancelled", operator)


def follow(
    store: JobStore,
    plan_id: str,
    *,
    rate_limit: float,
    progress: Callable[[Plan], None] = lambda _: None,
    every_s: float = FOLLOW_EVERY_S,
) -> Plan:
    """Run and watch a plan until it ends or is paused, alongside the workers."""
    rate_us = Limits(rate_per_s=rate_limit).rate_us
    while True:
        moved = 0
        while (did := stored.step(store, plan_id, rate_us=rate_us)).moved and did.state == "running":
            moved += did.moved
            progress(read(store, plan_id))
        stored.record_acts(store)
        plan = read(store, plan_id)
        progress(plan)
        if plan.state != "running":
            return plan
        if not moved:
            time.sleep(every_s)


def _transition(
    store: JobStore, plan: Plan, action: str, phase: str, operator: Operator, count: int | None = None
) -> Plan:
    entry = entry_of(store, plan.act, operator, count=plan.listed if action == "start" else plan.left, phase=phase,
        operation=plan.id, name=plan.name, filter=plan.filter,
        money=plan.money_listed if action == "start" else None,
    )  # fmt: skip
    note = json.dumps(
        {"kind": plan.act.value, "operator": operator.name, "reason": operator.reason, "operation": plan.id},
        ensure_ascii=False,
        separators=(",", ":"),
    )[:-1]
    dumped = json.dumps(entry, ensure_ascii=False)
    reply = stored.transition(store, plan.id, action, entry=dumped, confirmed=count, note=note)
    said, _, detail = reply.partition(":")
    if said == "unknown":
        raise PlanUnknown(f"plan {plan.id!r} no longer exists")
    if said == "refused":
        raise PlanInvalid(f"plan {plan.id} is {detail}: it cannot be {phase}")
    if said == "count":
        raise PlanInvalid(f"the plan has {detail} jobs, not {count}; nothing was changed")
    stored.record_acts(store)
    return read(store, plan.id)


def _one_named(job_id: str) -> str:
    name = "".join(letter for letter in external_id_of(job_id) if letter.isprintable())
    return f"sale {name}"[:MAX_NAME]


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise PlanInvalid(f"name the plan after its incident, in 1 to {MAX_NAME} printable characters")
    return name


def _state(store: JobStore, plan_id: str) -> str:
    return text(store.client.hget(store.keys.plan(plan_id), "state") or "")
