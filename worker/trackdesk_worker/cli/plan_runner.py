"""What `redrive`, `discard` and `plan` share: selects jobs, creates and follows a plan, prints its verdicts."""

import shlex
from collections.abc import Sequence
from typing import Any

import click

from trackdesk_producer.contract.record import State, external_id_of, job_id
from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.options import Session, search_of
from trackdesk_worker.cli.output import confirm, confirm_count, console, emit_json, facts, progress, warn
from trackdesk_worker.domain.money import plain_money, readable_money
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act, Operator
from trackdesk_worker.ops.lookup import SaleUnknown, find_job
from trackdesk_worker.ops.plans import DONE, Plan, PlanEmpty
from trackdesk_worker.ops.plans.preview import add_up, figures_of
from trackdesk_worker.ops.timestamps import readable_age
from trackdesk_worker.store.dead_letters.index_query import read_hits
from trackdesk_worker.store.dead_letters.query import Search

NAMING = ("tenant", "conversion_type")
"""Options that also identify the sale of an externalId."""
NAMED = 20
"""Skipped and refused jobs that are named on stderr."""


def selection(
    session: Session, external_ids: Sequence[str], every: bool, limit: int | None, chosen: dict[str, Any]
) -> Search | list[str]:
    """Return the jobs that the arguments select: a search of dead letters, or ids of jobs."""
    narrowing = [name for name, value in chosen.items() if value is not None and name not in NAMING]
    if every and external_ids:
        raise click.UsageError("name sales or pass --all, not both")
    if not every and (narrowing or limit is not None):
        raise click.UsageError("filters and --limit go with --all")
    if every:
        return search_of(session, **chosen)
    if not external_ids:
        raise click.UsageError("name at least one externalId, or pass --all")
    tenant = chosen["tenant"] or session.settings.tenant
    conversion_type = chosen["conversion_type"]
    ids = []
    for external_id in external_ids:
        try:
            ids.append(find_job(session.store, external_id, tenant=tenant, conversion_type=conversion_type))
        except SaleUnknown:
            if len(external_ids) == 1 or tenant is None:
                raise
            ids.append(job_id(tenant, external_id))  # gets its verdict with the others
    return list(dict.fromkeys(ids))


def dry_run(session: Session, wanted: Search | list[str], limit: int | None, *, act: Act, to_json: bool) -> None:
    """Count and print; nothing is stored."""
    if isinstance(wanted, Search):
        found = plans.preview(
            session.store, wanted, rate_limit=session.settings.rate_limit, shares=session.settings.shares
        )
        figures = (found.jobs, found.money, found.by_reason, found.by_tenant)
        if limit is not None and limit < found.jobs:
            figures = figures_of(session.store, wanted, limit)
    else:
        sales = [s for s in read_hits(session.store, wanted) if s.record.state is State.DEAD]
        figures = add_up(sales)
    jobs, money, by_reason, by_tenant = figures
    seconds = plans.seconds_at_budget(session.store, by_tenant, rate_limit=session.settings.rate_limit)
    if to_json:
        emit_json(
            {
                "dry_run": True,
                "jobs": jobs,
                "money": plain_money(money),
                "by_reason": dict(by_reason),
                "by_tenant": dict(by_tenant),
                "seconds_at_budget": seconds,
            }
        )
        return
    console().print(facts(_figures(jobs, money, by_reason, by_tenant, seconds if act is Act.REDRIVE else None)))
    if not isinstance(wanted, Search) and len(wanted) > jobs:
        warn(f"{len(wanted) - jobs:,} of the {len(wanted):,} named are not dead letters")


def carry_out(
    session: Session,
    wanted: Search | list[str],
    limit: int | None,
    *,
    act: Act,
    name: str | None,
    operator: Operator,
    yes: bool,
    count: int | None,
    detach: bool,
    to_json: bool,
) -> int:
    """Create a plan, show its list, ask, start it, and follow it unless detached; return the exit code.

    A plan that is not confirmed is cancelled.
    """
    try:
        plan = _make_plan(session, wanted, limit, act=act, name=name, operator=operator, to_json=to_json)
    except PlanEmpty:
        return _nothing_to_do(to_json=to_json, word=DONE[act])
    try:
        show_list(session, plan, to_json=to_json)
        ask(plan, yes=yes, count=count)
        plans.start(session.store, plan.id, operator, confirm_count=confirmed_of(plan))
    finally:
        _drop(session, plan, operator)
    if detach:
        return _report_detached(plans.read(session.store, plan.id), to_json=to_json)
    return report_outcome(session, follow_to_the_end(session, plan.id, to_json=to_json), to_json=to_json)


def ask(plan: Plan, *, yes: bool, count: int | None) -> None:
    """Have a plan confirmed before it starts; discarding needs the number of jobs."""
    if plan.act is Act.DISCARD:
        confirm_count(f"Type the number of dead letters to discard ({plan.left})", plan.left, yes=yes, given=count)
    else:
        confirm(f"Redrive {plan.left:,} dead letters?", yes=yes)


def confirmed_of(plan: Plan) -> int | None:
    """Return the number of jobs that the start of a confirmed plan states; only a discard needs it."""
    return plan.listed if plan.act is Act.DISCARD else None


def _make_plan(
    session: Session,
    wanted: Search | list[str],
    limit: int | None,
    *,
    act: Act,
    name: str | None,
    operator: Operator,
    to_json: bool,
) -> Plan:
    """Create a plan and freeze its list, with a progress bar."""
    plan = plans.create(
        session.store,
        wanted,
        act=act,
        name=name or operator.reason[: plans.MAX_NAME],
        operator=operator,
        limit=limit,
        dedupe_window_s=session.settings.dedupe_window_s,
    )
    with progress("listing", None, quiet=to_json) as bar:
        return plans.finish_listing(
            session.store, plan.id, progress=lambda p: bar.update(bar.task_ids[0], completed=p.listed)
        )


def show_list(session: Session, plan: Plan, *, to_json: bool) -> None:
    """Print the totals of a plan's list."""
    if to_json:
        return
    seconds = plans.seconds_at_budget(session.store, plan.by_tenant, rate_limit=session.settings.rate_limit)
    console().print(
        facts(
            {
                "plan": f"{plan.id}, {plan.name}",
                **_figures(
                    plan.left, plan.money_listed, plan.by_reason, plan.by_tenant,
                    seconds if plan.act is Act.REDRIVE else None,
                ),
            }
        )
    )  # fmt: skip
    if plan.decided:
        warn(f"{plan.decided:,} of the {plan.listed:,} named are not dead letters")


def _drop(session: Session, plan: Plan, operator: Operator) -> None:
    """Cancel a plan that was not started."""
    if plans.read(session.store, plan.id).state == "ready":
        plans.cancel(session.store, plan.id, operator)


def follow_to_the_end(session: Session, plan_id: str, *, to_json: bool) -> Plan:
    """Follow a plan with a progress bar until it ends or is paused."""
    plan = plans.read(session.store, plan_id)
    try:
        with progress("discarding" if plan.act is Act.DISCARD else "redriving", plan.listed, quiet=to_json) as bar:
            return plans.follow(
                session.store, plan_id, rate_limit=session.settings.rate_limit,
                progress=lambda p: bar.update(bar.task_ids[0], completed=p.decided),
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        raise CommandFailed(
            f"the plan continues in the workers; watch it with `trackdesk plan show {shlex.quote(plan_id)} --follow`, "
            f"stop it with `trackdesk plan cancel {shlex.quote(plan_id)}`"
        ) from stop


def report_outcome(session: Session, plan: Plan, *, to_json: bool) -> int:
    """Print the verdicts and return the exit code."""
    word = DONE[plan.act]
    if to_json:
        emit_json(
            {
                "operation": plan.id,
                "plan": plan.id,
                "state": plan.state,
                "dry_run": False,
                "jobs": plan.listed,
                word: plan.done,
                "verdicts": dict(plan.verdicts),
                "money": plain_money(plan.money_done),
            }
        )
    else:
        click.echo(f"{plan.done:,} {word}, {readable_money(plan.money_done)} ({plan.id})")
    skipped = plan.decided - plan.done
    if skipped:
        for verdict in ("refused", "skipped"):
            for item in plans.items(session.store, plan.id, verdict=verdict, limit=NAMED).items:
                state = item.verdict.partition(":")[2].replace("_", " ")
                why = "it was redriven and died again" if state == "died again" else f"it is {state}"
                warn(f"{external_id_of(item.job_id)!r} was skipped: {why}")
    if skipped > NAMED:
        warn(f"{skipped:,} were skipped in total: `trackdesk plan show {plan.id}` counts them by reason")
    if not plan.ended:
        warn(f"the plan is {plan.state}: {plan.left:,} jobs have no verdict yet")
    return 0 if plan.done == plan.listed else 1


def _report_detached(plan: Plan, *, to_json: bool) -> int:
    """Print how to watch a plan that runs in the workers."""
    if to_json:
        emit_json({"operation": plan.id, "plan": plan.id, "state": plan.state, "dry_run": False, "jobs": plan.listed})
    else:
        click.echo(f"{plan.id} is {plan.state}; watch it with `trackdesk plan show {plan.id} --follow`")
    return 0


def _nothing_to_do(*, to_json: bool, word: str) -> int:
    """Report that nothing matched."""
    if to_json:
        emit_json({"dry_run": False, "jobs": 0, word: 0, "verdicts": {}, "money": {}})
    else:
        click.echo("no dead letter matches")
    return 0


def _figures(jobs: int, money: Any, by_reason: Any, by_tenant: Any, seconds: float | None) -> dict[str, object]:
    def text(counts: Any) -> str | None:
        return ", ".join(f"{key} {n:,}" for key, n in counts.items()) or None

    budget = None
    if seconds is not None:
        budget = f"about {readable_age(seconds)}" if seconds else "no limit"
    return {
        "dead letters": f"{jobs:,}",
        "money": readable_money(money),
        "by tenant": text(by_tenant),
        "by reason": text(by_reason),
        "at the budget": budget,
    }
