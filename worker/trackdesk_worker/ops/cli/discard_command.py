"""``trackdesk discard``."""

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
from trackdesk_worker.ops.cli.output import confirm_count


@click.command("discard")
@click.argument("external_ids", metavar="[EXTERNAL_ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All dead letters that match the filters.")
@filter_options("--cause")
@click.option("--limit", type=click.IntRange(1), help="With --all: at most so many, the oldest first.")
@click.option("--dry-run", is_flag=True, help="Only count jobs and money.")
@click.option("--count", type=click.IntRange(0), help="With --yes: the number of jobs, as --dry-run tells it.")
@operator_options
@yes_option
@json_option
def command(
    external_ids: tuple[str, ...],
    every: bool,
    limit: int | None,
    dry_run: bool,
    count: int | None,
    operator: str | None,
    why: str | None,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> int:
    """Give dead letters up for good: they will never be paid. Needs --reason and the number of jobs, typed.

    The sales stay known for the dedupe window, so that enqueueing them again changes nothing.
    """
    who = None if dry_run else operator_of(operator, why)
    with open_desk() as desk:
        plan = make_plan(desk, external_ids, every, limit, chosen)
        if who is None or plan.jobs:
            show_plan(desk, plan, to_json=as_json, dry_run=dry_run, sends=False)
        if who is None or nothing_to_do(plan, to_json=as_json, word="discarded"):
            return 0
        question = f"Type the number of dead letters to give up ({plan.found})"
        confirm_count(question, plan.found, yes=yes, given=count)
        return carry_out(
            plan,
            "discarding",
            to_json=as_json,
            act=lambda progress: service.discard(
                desk.client,
                desk.keys,
                plan,
                who,
                dedupe_window_s=desk.settings.dedupe_window_s,
                progress=progress,
            ),
        )
