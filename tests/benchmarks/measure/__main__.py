"""``python -m tests.benchmarks.measure``: throughput and cost on this machine, against the targets."""

import sys

import click

from tests.benchmarks.measure.catalogue import SCENARIOS
from tests.benchmarks.measure.figures import Figure, plain
from tests.benchmarks.measure.rig import Scale
from tests.benchmarks.measure.session import Session, measure
from trackdesk_worker.cli.options import json_option
from trackdesk_worker.cli.output import add_row, console, emit_json, table
from trackdesk_worker.local.embedded import EmbeddedUnavailable
from trackdesk_worker.ops.errors import OpsError

SOAK_JOBS = 200_000


@click.command("measure")
@click.option("--quick", is_flag=True, help="Small sizes, one run: to see that it works, not how fast.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(SCENARIOS)), metavar="NAME", help="This scenario; repeatable."
)
@click.option("--runs", type=click.IntRange(1, 100), help="Runs per scenario. Default: 5; quick: 1.")
@click.option(
    "--soak",
    type=click.IntRange(2_000, 100_000_000),
    default=SOAK_JOBS,
    show_default=True,
    metavar="JOBS",
    help="Deliveries of the scenario soak.",
)
@click.option("--short", is_flag=True, help="Full sizes, fewer runs of what takes long: minutes instead of an hour.")
@json_option
def command(quick: bool, only: tuple[str, ...], runs: int | None, soak: int, short: bool, as_json: bool) -> None:
    """Measure throughput and cost on this machine, against the targets.

    Uses servers, workers and a stub of its own and touches no other deployment. A figure counts only if the audit
    after its run is clean; otherwise the command ends with exit code 1. A missed target does not: machines differ.
    """
    session = measure(
        [name for name in SCENARIOS if not only or name in only],
        runs=runs or (1 if quick else 5),
        scale=Scale(quick, soak, short),
        notify=lambda line: click.echo(line, err=True),
        found=lambda figure: click.echo(f"  {figure.name}: {plain(figure.median)} {figure.spec.unit}", err=True),
    )
    if as_json:
        emit_json(session.document())
    else:
        _show(session)


def _show(session: Session) -> None:
    rows = table("scenario", "figure", "min", "median", "max", "unit", "target", "", right=("min", "median", "max"))
    for figure in session.figures:
        lowest, highest = plain(min(figure.runs)), plain(max(figure.runs))
        target = "" if figure.spec.target is None or session.quick else str(figure.spec.target)
        add_row(
            rows,
            figure.scenario,
            figure.name,
            lowest,
            plain(figure.median),
            highest,
            figure.spec.unit,
            target,
            _verdict(figure) if target else "",
        )
    console().print(rows)
    facts = session.machine
    click.echo(
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}, "
        f"Valkey {facts['valkey']}; {session.audits} audits, all clean"
    )


def _verdict(figure: Figure) -> str:
    return "met" if figure.met else "missed"


def main() -> None:
    """Run; an error is one sentence."""
    try:
        command.main(prog_name="python -m tests.benchmarks.measure")
    except (OpsError, EmbeddedUnavailable) as error:
        sys.exit(f"measure: {error}")


if __name__ == "__main__":
    main()
