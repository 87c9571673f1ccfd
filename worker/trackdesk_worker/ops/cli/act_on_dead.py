"""What `redrive` and `discard` share: from words to a plan, and from verdicts to words."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from trackdesk_producer.contract.job import external_id_of, job_id
from trackdesk_worker.ops import dead_letter_service as service
from trackdesk_worker.ops.cli import CommandFailed
from trackdesk_worker.ops.cli.options import Desk, search_of
from trackdesk_worker.ops.cli.output import console, emit_json, facts, progress, warn
from trackdesk_worker.ops.dead_letter_service import ActInterrupted, Plan, Verdicts
from trackdesk_worker.ops.lookup import SaleUnknown, find_job
from trackdesk_worker.ops.moments import readable_age
from trackdesk_worker.ops.money import plain_money, readable_money

NAMING = ("tenant", "conversion_type")
"""Options that also say which sale is meant by an externalId."""
TOLD = 20
"""Jobs that did not move which are named on stderr."""


def make_plan(desk: Desk, external_ids: Sequence[str], every: bool, limit: int | None, chosen: dict[str, Any]) -> Plan:
    """Return the plan that the arguments mean."""
    narrowing = [name for name, value in chosen.items() if value is not None and name not in NAMING]
    if every and external_ids:
        raise click.UsageError("name sales or pass --all, not both")
    if not every and (narrowing or limit is not None):
        raise click.UsageError("filters and --limit go with --all")
    if every:
        return service.plan_matching(desk.client, desk.keys, search_of(desk, **chosen), limit=limit)
    if not external_ids:
        raise click.UsageError("name at least one externalId, or pass --all")
    tenant = chosen["tenant"] or desk.settings.tenant
    conversion_type = chosen["conversion_type"]
    ids = []
    for external_id in external_ids:
        try:
            ids.append(find_job(desk.client, desk.keys, external_id, tenant=tenant, conversion_type=conversion_type))
        except SaleUnknown:
            if len(external_ids) == 1 or tenant is None:
                raise
            ids.append(job_id(tenant, external_id))  # gets its verdict, `unknown`, with the others
    return service.plan_named(desk.client, desk.keys, ids)


def show_plan(desk: Desk, plan: Plan, *, to_json: bool, dry_run: bool, sends: bool = True) -> None:
    """Print what would be done: as JSON only for a dry run, which prints nothing else."""
    seconds = service.seconds_at_budget(desk.client, desk.keys, plan, rate_limit=desk.settings.rate_limit)
    if to_json:
        if dry_run:
            emit_json(
                {
                    "dry_run": True,
                    "jobs": plan.found,
                    "money": plain_money(plan.money),
                    "by_reason": dict(plan.by_reason),
                    "by_tenant": dict(plan.by_tenant),
                    "seconds_at_budget": seconds,
                }
            )
        return
    budget = f"about {readable_age(seconds)}" if seconds else "no limit"
    by = {"by tenant": plan.by_tenant, "by reason": plan.by_reason}
    console().print(
        facts(
            {
                "dead letters": f"{plan.found:,}",
                "money": readable_money(plan.money),
                **{name: ", ".join(f"{key} {n:,}" for key, n in counts.items()) or None for name, counts in by.items()},
                "at the budget": budget if sends else None,
            }
        )
    )
    if plan.jobs > plan.found:
        warn(f"{plan.jobs - plan.found:,} of the {plan.jobs:,} named are no dead letters")


def carry_out(plan: Plan, label: str, *, to_json: bool, act: Callable[[Callable[[int], None]], Verdicts]) -> int:
    """Act with a progress bar, tell the verdicts and return the exit code."""
    try:
        with progress(label, plan.jobs, quiet=to_json) as bar:
            verdicts = act(lambda count: bar.advance(bar.task_ids[0], count))
    except ActInterrupted as stop:
        done = stop.verdicts.done
        raise CommandFailed(f"{stop}, {done} of them moved; repeat the command, it leaves those alone") from stop
    _tell(plan, verdicts, to_json)
    return 0 if verdicts.done == plan.jobs else 1


def _tell(plan: Plan, verdicts: Verdicts, to_json: bool) -> None:
    word = service.DONE[verdicts.act]
    if to_json:
        emit_json(
            {
                "operation": verdicts.operation,
                "dry_run": False,
                "jobs": plan.jobs,
                word: verdicts.done,
                "verdicts": dict(verdicts.counts),
                "money": plain_money(verdicts.money),
            }
        )
    else:
        click.echo(f"{verdicts.done:,} {word}, {readable_money(verdicts.money)} ({verdicts.operation})")
    for identity, verdict in list(verdicts.others.items())[:TOLD]:
        told, _, state = verdict.partition(":")
        why = f"it is {state.replace('_', ' ')}" if told == "refused" else "it is unknown"
        warn(f"{external_id_of(identity)!r} was left alone: {why}")
    left = plan.jobs - verdicts.done
    if left > TOLD:
        warn(f"{left - TOLD:,} more were left alone")


def nothing_to_do(plan: Plan, *, to_json: bool, word: str) -> bool:
    """Tell that a filter matched nothing, if so."""
    if plan.jobs:
        return False
    if to_json:
        emit_json({"dry_run": False, "jobs": 0, word: 0, "verdicts": {}, "money": {}})
    else:
        click.echo("no dead letter matches", file=sys.stdout)
    return True
