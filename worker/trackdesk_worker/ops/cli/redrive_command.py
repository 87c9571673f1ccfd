"""``trackdesk redrive``."""

from typing import Any

import click

from trackdesk_worker.ops.cli.act_on_dead import (
    drop,
    dry_run,
    follow_to_the_end,
    make_plan,
    meaning,
    nothing_to_do,
    show_list,
    tell,
    tell_detached,
)
from trackdesk_worker.ops.cli.options import (
    detach_option,
    filter_options,
    json_option,
    open_desk,
    operator_of,
    operator_options,
    plan_name_option,
    yes_option,
)
from trackdesk_worker.ops.cli.output import confirm
from trackdesk_worker.ops.desk import plans
from trackdesk_worker.ops.desk.plans import PlanEmpty
from trackdesk_worker.ops.operations_log import Act


@click.command("redrive")
@click.argument("external_ids", metavar="[EXTERNAL_ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All dead letters that match the filters.")
@filter_options("--cause")
@click.option("--limit", type=click.IntRange(1), help="With --all: at most so many, the oldest first.")
@click.option("--dry-run", "only_count", is_flag=True, help="Only count jobs and money.")
@plan_name_option
@detach_option
@operator_options
@yes_option
@json_option
def command(
    external_ids: tuple[str, ...],
    every: bool,
    limit: int | None,
    only_count: bool,
    name: str | None,
    detach: bool,
    operator: str | None,
    why: str | None,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Give dead letters a fresh attempt budget: same sale, same externalId, history kept.

    Makes a plan, shows it and asks first. Jobs that die meanwhile are not in it; jobs that another operator redrives
    meanwhile are left alone. The plan goes on if you stop watching. --all needs --reason.
    """
    who = None if only_count else operator_of(operator, why, default_reason="" if every else "redriven by name")
    with open_desk() as desk:
        wanted = meaning(desk, external_ids, every, limit, chosen)
        if who is None:
            dry_run(desk, wanted, limit, to_json=as_json, sends=True)
            return 0
        try:
            plan = make_plan(desk, wanted, limit, act=Act.REDRIVE, name=name, operator=who, to_json=as_json)
        except PlanEmpty:
            return nothing_to_do(to_json=as_json, word="redriven")
        try:
            show_list(desk, plan, to_json=as_json)
            confirm(f"Redrive {plan.left:,} dead letters?", yes=yes)
            plans.start(desk.client, desk.keys, plan.id, who)
        finally:
            drop(desk, plan, who)
        ended = (
            plans.read(desk.client, desk.keys, plan.id) if detach else follow_to_the_end(desk, plan.id, to_json=as_json)
        )
        return tell(desk, ended, to_json=as_json) if not detach else tell_detached(ended, to_json=as_json)
