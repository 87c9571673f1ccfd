"""``trackdesk plan``: create, start, watch, pause, resume and cancel plans."""

from collections.abc import Callable
from typing import Any

import click

from trackdesk_worker.cli.options import (
    Session,
    filter_options,
    json_option,
    open_session,
    operator_of,
    operator_options,
    search_of,
    yes_option,
)
from trackdesk_worker.cli.output import add_row, console, emit_json, facts, table, warn
from trackdesk_worker.cli.plan_runner import ask, confirmed_of, follow_to_the_end, report_outcome, show_list
from trackdesk_worker.domain.money import plain_money, readable_money
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit_log import Act
from trackdesk_worker.ops.plans import Plan
from trackdesk_worker.ops.timestamps import iso, readable_moment

SHOWN = 100


@click.group("plan", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Redrive or discard many dead letters: create a list, then start, watch, pause, resume or cancel.

    `redrive --all` and `discard --all` create, start and follow a plan in one command.
    """


@command.command("list")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Maximum number of plans.")
@click.option("--after", metavar="PLAN", help="Continue after this plan.")
@json_option
def list_command(limit: int, after: str | None, as_json: bool) -> None:
    """List plans, the newest first. They are kept for 90 days after their end."""
    with open_session() as session:
        found = plans.recent(session.store, limit=limit, after=after)
    if as_json:
        emit_json([_as_json(plan) for plan in found])
        return
    if not found:
        click.echo("there are no plans")
        return
    rows = table(
        "created (UTC)", "plan", "name", "act", "state", "jobs", "done", "left", "by", right=("jobs", "done", "left")
    )
    for plan in found:
        add_row(
            rows, readable_moment(plan.created_ms), plan.id, plan.name, plan.act.value, plan.state,
            f"{plan.listed:,}", f"{plan.done:,}", f"{plan.left:,}", plan.operator,
        )  # fmt: skip
    console().print(rows)
    if len(found) == limit:
        warn(f"Next page: --after {found[-1].id}")


@command.command("show")
@click.argument("plan_id", metavar="PLAN")
@click.option("--follow", is_flag=True, help="Watch it until it ends or is paused.")
@click.option("--jobs", "with_jobs", is_flag=True, help="List its jobs with their verdicts.")
@click.option("--verdict", metavar="VERDICT", help="With --jobs: only redriven, discarded, skipped, refused, pending…")
@click.option("--limit", type=click.IntRange(1, 10_000), default=SHOWN, show_default=True, help="With --jobs.")
@click.option("--after", metavar="CURSOR", help="With --jobs: continue after this page.")
@json_option
def show_command(
    plan_id: str, follow: bool, with_jobs: bool, verdict: str | None, limit: int, after: str | None, as_json: bool
) -> int:
    """Show one plan: its totals, its verdicts, and with --jobs each job."""
    with open_session() as session:
        if follow:
            return report_outcome(session, follow_to_the_end(session, plan_id, to_json=as_json), to_json=as_json)
        plan = plans.read(session.store, plan_id)
        page = None
        if with_jobs:
            page = plans.items(session.store, plan_id, verdict=verdict, limit=limit, after=after)
    if as_json:
        document = _as_json(plan)
        if page is not None:
            document["items"] = [
                {
                    "tenant": item.tenant,
                    "external_id": item.external_id,
                    "verdict": item.verdict,
                    "at": iso(item.at_ms),
                    "state_now": None if item.state_now is None else item.state_now.value,
                    "job_id": item.job_id,
                }
                for item in page.items
            ]
            document["cursor"] = page.cursor
        emit_json(document)
        return 0
    _print(plan)
    if page is not None:
        rows = table("tenant", "externalId", "verdict", "when (UTC)", "is now")
        for item in page.items:
            now = "pruned" if item.state_now is None else item.state_now.value.replace("_", " ")
            add_row(rows, item.tenant, item.external_id, item.verdict, readable_moment(item.at_ms), now)
        console().print()
        console().print(rows)
        if page.cursor is not None:
            warn(f"Next page: --after {page.cursor}")
    return 0


@command.command("create")
@click.argument("act", type=click.Choice(["redrive", "discard"]))
@filter_options("--cause")
@click.option("--limit", type=click.IntRange(1), help="Maximum number of jobs, the oldest first.")
@click.option("--name", required=True, metavar="TEXT", help="Name it after its incident.")
@operator_options
@json_option
def create_command(
    act: str, limit: int | None, name: str, operator: str | None, why: str | None, as_json: bool, **chosen: Any
) -> None:
    """Create a plan: freeze the list of a filter. `plan start` starts it."""
    who = operator_of(operator, why)
    with open_session() as session:
        made = plans.create(
            session.store,
            search_of(session, **chosen),
            act=Act(act),
            name=name,
            operator=who,
            limit=limit,
            dedupe_window_s=session.settings.dedupe_window_s,
        )
        plan = plans.finish_listing(session.store, made.id)
        show_list(session, plan, to_json=as_json)
    if as_json:
        emit_json(_as_json(plan))
    else:
        click.echo(f"nothing was changed yet; `trackdesk plan start {plan.id}` starts it")


@command.command("start")
@click.argument("plan_id", metavar="PLAN")
@click.option("--follow", is_flag=True, help="Watch it until it ends or is paused.")
@click.option("--count", type=click.IntRange(0), help="With --yes, to discard: the number of jobs.")
@operator_options
@yes_option
@json_option
def start_command(
    plan_id: str, follow: bool, count: int | None, operator: str | None, why: str | None, yes: bool, as_json: bool
) -> int:
    """Start a plan: the workers run it."""
    who = operator_of(operator, why, default_reason="plan start")
    with open_session() as session:
        plan = plans.read(session.store, plan_id)
        if plan.state == "ready":
            show_list(session, plan, to_json=as_json)
            ask(plan, yes=yes, count=count)
        plans.start(session.store, plan_id, who, confirm_count=confirmed_of(plan))
        if follow:
            return report_outcome(session, follow_to_the_end(session, plan_id, to_json=as_json), to_json=as_json)
        return _report(session, plan_id, as_json)


def _action(word: str, act: Callable[..., object], meaning: str) -> None:
    @command.command(word, help=meaning)
    @click.argument("plan_id", metavar="PLAN")
    @operator_options
    @json_option
    def action_command(plan_id: str, operator: str | None, why: str | None, as_json: bool) -> int:
        who = operator_of(operator, why, default_reason=f"plan {word}")
        with open_session() as session:
            act(session.store, plan_id, who)
            return _report(session, plan_id, as_json)


_action("pause", plans.pause, "Pause a running plan. Jobs that have a verdict are not affected.")
_action("resume", plans.resume, "Resume a paused plan.")
_action("cancel", plans.cancel, "Cancel a plan. Jobs without a verdict stay dead letters.")


def _report(session: Session, plan_id: str, as_json: bool) -> int:
    plan = plans.read(session.store, plan_id)
    if as_json:
        emit_json(_as_json(plan))
    else:
        click.echo(f"{plan.id} is {plan.state}: {plan.done:,} done, {plan.left:,} left")
    return 0


def _print(plan: Plan) -> None:
    console().print(
        facts(
            {
                "plan": f"{plan.id}, {plan.name}",
                "act": plan.act.value,
                "state": plan.state,
                "stopped because": plan.problem,
                "filter": plan.filter,
                "by": f"{plan.operator}: {plan.reason}",
                "created (UTC)": readable_moment(plan.created_ms),
                "started (UTC)": None if plan.started_ms is None else readable_moment(plan.started_ms),
                "ended (UTC)": None if plan.ended_ms is None else readable_moment(plan.ended_ms),
                "jobs": f"{plan.listed:,}, {readable_money(plan.money_listed)}",
                **{verdict: f"{jobs:,}" for verdict, jobs in plan.verdicts.items()},
                "left": f"{plan.left:,}",
                "money moved": readable_money(plan.money_done),
            }
        )
    )


def _as_json(plan: Plan) -> dict[str, Any]:
    return {
        "plan": plan.id,
        "name": plan.name,
        "act": plan.act.value,
        "state": plan.state,
        "problem": plan.problem,
        "operator": plan.operator,
        "reason": plan.reason,
        "filter": plan.filter,
        "created_at": iso(plan.created_ms),
        "started_at": None if plan.started_ms is None else iso(plan.started_ms),
        "ended_at": None if plan.ended_ms is None else iso(plan.ended_ms),
        "jobs": plan.listed,
        "done": plan.done,
        "left": plan.left,
        "verdicts": dict(plan.verdicts),
        "money_listed": plain_money(plan.money_listed),
        "money_done": plain_money(plan.money_done),
        "by_reason": dict(plan.by_reason),
        "by_tenant": dict(plan.by_tenant),
    }
