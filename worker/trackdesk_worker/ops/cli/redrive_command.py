"""``trackdesk redrive``."""

from typing import Any

import click

from trackdesk_worker.ops import dead_letter_service as service
from trackdesk_worker.ops.cli.act_on_dead import carry_out, make_plan, nothing_to_do, show_plan
from trackdesk_worker.ops.cli.options import (
    filter_options,
    json_option,
    open_desk,
    operator_of,
    operator_options,
    yes_option,
)
from trackdesk_worker.ops.cli.output import confirm


@click.command("redrive")
@click.argument("external_ids", metavar="[EXTERNAL_ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All dead letters that match the filters.")
@filter_options("--cause")
@click.option("--limit", type=click.IntRange(1), help="With --all: at most so many, the oldest first.")
@click.option("--dry-run", is_flag=True, help="Only count jobs and money.")
@operator_options
@yes_option
@json_option
def command(
    external_ids: tuple[str, ...],
    every: bool,
    limit: int | None,
    dry_run: bool,
    operator: str | None,
    why: str | None,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Give dead letters a fresh attempt budget: same sale, same externalId, history kept.

    Shows the plan and asks first. Jobs that die meanwhile are not in it; jobs that another operator redrives
    meanwhile are left alone. --all needs --reason.
    """
    who = None
    if not dry_run:
        who = operator_of(operator, why, default_reason="" if every else "redriven by name")
    with open_desk() as desk:
        plan = make_plan(desk, external_ids, every, limit, chosen)
        if who is None or plan.jobs:
            show_plan(desk, plan, to_json=as_json, dry_run=dry_run)
        if who is None or nothing_to_do(plan, to_json=as_json, word="redriven"):
            return 0
        confirm(f"Redrive {plan.found:,} dead letters?", yes=yes)
        return carry_out(
            plan,
            "redriving",
            to_json=as_json,
            act=lambda progress: service.redrive(desk.client, desk.keys, plan, who, progress=progress),
        )
