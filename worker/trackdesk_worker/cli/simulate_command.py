"""``trackdesk simulate``."""

import json
import sys
from typing import Any

import click

from trackdesk_worker.cli import CommandFailed


@click.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8790, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--profile", help="How errors are answered: gateway, all-400, all-500 or empty-body.")
@click.option("--rate-limit", type=float, help="Requests per second and tenant before 429.")
@click.option("--faults", metavar="JSON", help='Probabilities, such as {"error_rate": 0.1, "commit_then_drop": 0.05}.')
@click.option("--config", metavar="JSON", default="{}", help="Any settings of the simulator as a JSON object.")
def command(
    host: str, port: int, profile: str | None, rate_limit: float | None, faults: str | None, config: str
) -> None:
    """Run a local Trackdesk until Ctrl-C. For trials and tests: it keeps its ledger in memory.

    Point a worker at it with TRACKDESK_BASE_URL. GET /_simulator/ledger and /_simulator/stats show what arrived; PUT
    /_simulator/config changes its behaviour while it runs.
    """
    try:
        from trackdesk_simulator import RunningSimulator, SimulatorConfig, run_simulator
        from trackdesk_simulator.config import explain
    except ImportError as error:
        raise CommandFailed(
            "the simulator is not installed here (the production image leaves it out): build the image with "
            "--target demo, or pip install 'trackdesk-worker[simulator]'"
        ) from error

    settings: dict[str, Any] = {**_object("--config", config), "host": host, "port": port}
    if profile is not None:
        settings["profile"] = profile
    if rate_limit is not None:
        settings["rate_limit"] = {"per_s": rate_limit}
    if faults is not None:
        settings["faults"] = _object("--faults", faults)
    try:
        checked = SimulatorConfig.model_validate(settings)
    except ValueError as error:
        raise click.UsageError(explain(error)) from error

    def announce(simulator: RunningSimulator) -> None:
        # To programs one JSON line with the address; to people a sentence.
        if sys.stdout.isatty():
            click.echo(f"A local Trackdesk listens; set TRACKDESK_BASE_URL={simulator.base_url}")
        else:
            click.echo(json.dumps({"ready": True, "port": simulator.port, "base_url": simulator.base_url}))
            sys.stdout.flush()

    try:
        run_simulator(checked, announce)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"the simulator cannot start: {error}") from error


def _object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError(f"{option} is not a JSON object")
    return value
