"""``trackdesk redrive`` and ``trackdesk discard``: the same options and steps, one act each."""

from typing import Any

import click

from trackdesk_worker.cli.options import (
    F,
    detach_option,
    filter_options,
    json_option,
    open_session,
    operator_of,
    operator_options,
    plan_name_option,
    yes_option,
)
from trackdesk_worker.cli.plan_runner import carry_out, dry_run, selection
from trackdesk_worker.ops.audit_log import Act


def _options(command: F) -> F:
    for option in reversed(
        (
            click.argument("external_ids", metavar="[EXTERNAL_ID]...", nargs=-1),
            click.option("--all", "every", is_flag=True, help="All dead letters that match the filters."),
            filter_options("--cause"),
            click.option(
                "--limit", type=click.IntRange(1), help="With --all: maximum number of jobs, the oldest first."
            ),
            click.option("--dry-run", "only_count", is_flag=True, help="Only count jobs and money."),
            plan_name_option,
            detach_option,
            operator_options,
            yes_option,
            json_option,
        )
    ):
        command = option(command)
    return command


@click.command("redrive")
@_options
def redrive(**chosen: Any) -> int:
    """Send dead letters again with a new set of attempts: same sale, same externalId, history kept.

    Creates a plan, shows it and asks first. Jobs that die later are not in it; jobs that another operator redrives
    first are skipped. The plan continues if you stop watching. --all needs --reason.
    """
    return _run(Act.REDRIVE, default_reason="" if chosen["every"] else "redriven by name", **chosen)


@click.command("discard")
@_options
@click.option("--count", type=click.IntRange(0), help="With --yes: the number of jobs, as --dry-run shows it.")
def discard(**chosen: Any) -> int:
    """Discard dead letters: they will never be sent or paid. Needs --reason and the number of jobs, typed.

    The sales stay known for the dedupe window, so that enqueueing them again changes nothing.
    """
    return _run(Act.DISCARD, **chosen)


def _run(
    act: Act,
    *,
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
    count: int | None = None,
    default_reason: str = "",
    **chosen: Any,
) -> int:
    who = None if only_count else operator_of(operator, why, default_reason=default_reason)
    with open_session() as session:
        wanted = selection(session, external_ids, every, limit, chosen)
        if who is None:
            dry_run(session, wanted, limit, act=act, to_json=as_json)
            return 0
        return carry_out(
            session, wanted, limit,
            act=act, name=name, operator=who, yes=yes, count=count, detach=detach, to_json=as_json,
        )  # fmt: skip
