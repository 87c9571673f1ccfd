"""``trackdesk discard``."""

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
from trackdesk_worker.cli.output import confirm_count
from trackdesk_worker.cli.plan_runner import carry_out, dry_run, meaning
from trackdesk_worker.ops.audit_log import Act
from trackdesk_worker.ops.plans import Plan


@click.command("discard")
@click.argument("external_ids", metavar="[EXTERNAL_ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All dead letters that match the filters.")
@filter_options("--cause")
@click.option("--limit", type=click.IntRange(1), help="With --all: at most so many, the oldest first.")
@click.option("--dry-run", "only_count", is_flag=True, help="Only count jobs and money.")
@click.option("--count", type=click.IntRange(0), help="With --yes: the number of jobs, as --dry-run tells it.")
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
    count: int | None,
    name: str | None,
    detach: bool,
    operator: str | None,
    why: str | None,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Give dead letters up for good: they will never be paid. Needs --reason and the number of jobs, typed.

    The sales stay known for the dedupe window, so that enqueueing them again changes nothing.
    """
    who = None if only_count else operator_of(operator, why)

    def ask(plan: Plan) -> None:
        question = f"Type the number of dead letters to give up ({plan.left})"
        confirm_count(question, plan.left, yes=yes, given=count)

    with open_session() as session:
        wanted = meaning(session, external_ids, every, limit, chosen)
        if who is None:
            dry_run(session, wanted, limit, to_json=as_json, sends=False)
            return 0
        return carry_out(
            session, wanted, limit, act=Act.DISCARD, name=name, operator=who, ask=ask, detach=detach, to_json=as_json
        )
