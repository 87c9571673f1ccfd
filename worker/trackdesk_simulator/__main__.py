"""`python -m trackdesk_simulator --port 0 --config JSON`: prints one JSON line when it is ready."""

import argparse
import json
import sys
from typing import Any

from trackdesk_simulator.config import SimulatorConfig, explain
from trackdesk_simulator.run import run_simulator
from trackdesk_simulator.server import RunningSimulator


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal. Returns 0; 1 for an unusable address or ledger file; 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="python -m trackdesk_simulator", description=__doc__)
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port; 0 takes a free one")
    parser.add_argument("--config", default="{}", help="settings as a JSON object")
    options = parser.parse_args(arguments)
    named = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
    try:
        config = SimulatorConfig.model_validate(_settings(options.config) | named)
    except ValueError as error:
        sys.stderr.write(f"The simulator's settings are refused: {explain(error)}.\n")
        return 2
    try:
        run_simulator(config, _announce)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"The simulator cannot start: {error}.\n")
        return 1
    return 0


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ValueError("--config is not JSON") from error
    if not isinstance(settings, dict):
        raise ValueError("--config is not a JSON object")
    return settings


def _announce(simulator: RunningSimulator) -> None:
    line = {"ready": True, "port": simulator.port, "base_url": simulator.base_url}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
