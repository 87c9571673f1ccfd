"""``trackdesk redrive``."""

from typing import Any

import click

from trackdesk_worker.cli.options import (
    detach_option,
    filter_options,
    json_option,
    open_session,
    operator_of,
    operator_options,
    plan_name_option,
    yes_option,
)
from trackdesk_worker.cli.output import confirm
from trackdesk_worker.cli.plan_runner import carry_out, dry_run, meaning
from trackdesk_worker.ops.audit_log import Act
from trackdesk_worker.ops.plans import Plan


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

    def ask(plan: Plan) -> None:
        confirm(f"Redrive {plan.left:,} dead letters?", yes=yes)

    with open_session() as session:
        wanted = meaning(session, external_ids, every, limit, chosen)
        if who is None:
            dry_run(session, wanted, limit, to_json=as_json, sends=True)
            return 0
        return carry_out(
            session, wanted, limit, act=Act.REDRIVE, name=name, operator=who, ask=ask, detach=detach, to_json=as_json
        )
