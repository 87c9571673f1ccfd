"""Regression check by ratios of figures taken together: they hold on any machine, absolute figures do not."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

MOST_WORKER_TO_BARE_CLIENT = 4.0
"""Processor time of the whole worker per job, in requests of its HTTP client alone."""
MOST_REDIS_TO_WORKER = 1.0
"""Redis must stay the cheap half: one server carries several workers."""


@pytest.fixture(scope="module")
def figures() -> dict[str, float]:
    """One quick run of the delivery scenario, as a script would start it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKDESK_")}
    result = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.measure", "--quick", "--only", "deliver", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["audits_clean"] == 1
    return {figure["name"]: figure["median"] for figure in document["scenarios"]["deliver"]}


@pytest.mark.system
def test_a_job_costs_the_worker_few_times_what_its_request_alone_costs(figures: dict[str, float]) -> None:
    assert 0 < figures["worker CPU"] <= MOST_WORKER_TO_BARE_CLIENT * figures["bare client CPU"]


@pytest.mark.system
def test_redis_costs_less_than_the_worker(figures: dict[str, float]) -> None:
    assert 0 < figures["Redis CPU"] <= MOST_REDIS_TO_WORKER * figures["worker CPU"]
