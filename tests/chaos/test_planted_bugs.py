"""Checks that can fail: each bug is planted in a test build only, and caught by the check that guards against it."""

from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.test_store_state_machine import StoreMachine
from tests.support.crash_points import BY_NAME
from tests.support.matrix_plan import Plan, StoreFault
from tests.support.matrix_run import carry_out
from tests.support.planted import BOOKS_OUTSIDE, CLEAN_DUPLICATE, EDITS, HastyProducer, plant
from tests.support.simulator import simulator_process
from trackdesk_producer import Producer
from trackdesk_worker.ops.embedded import EmbeddedServer

FEW = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
@pytest.mark.parametrize("bug", EDITS)
def test_the_state_machine_catches(bug: str, server: EmbeddedServer) -> None:
    take_out = plant(bug)
    try:
        with redis.Redis(port=server.port) as client, pytest.raises(AssertionError):
            run_state_machine_as_test(lambda: StoreMachine(client), settings=FEW)
    finally:
        take_out()


def _plan(point: str, passage: int, fault: StoreFault) -> Plan:
    return Plan(
        seed=0,
        point=BY_NAME[point],
        passage=passage,
        store_fault=fault,
        fault_s=4.0,
        crash_first=True,
        after_share=0.0,
        trackdesk="sound",
        kind="valkey",
        jobs=60,
        dead=0,
    )


@pytest.mark.chaos
@pytest.mark.system
@pytest.mark.parametrize(
    ("bug", "producer", "plan", "said"),
    [
        (BOOKS_OUTSIDE, Producer, _plan("settle.after", 2, StoreFault.NONE), "audit: "),
        (CLEAN_DUPLICATE, Producer, _plan("request.answered", 25, StoreFault.NONE), "clean first attempt"),
        ("", HastyProducer, _plan("claim.after", 1, StoreFault.KILL), "was accepted and is lost"),
    ],
    ids=["books written outside the script", "a clean duplicate taken for success", "an answer before the record"],
)
def test_the_crash_matrix_catches(bug: str, producer: type[Producer], plan: Plan, said: str, tmp_path: Path) -> None:
    with simulator_process() as trackdesk:
        verdict = carry_out(plan, trackdesk, tmp_path / "run", plant=bug, producer=producer, finishes_within_s=10)

    assert verdict.crashed, "the victim did not die where it should"
    assert any(said in problem for problem in verdict.problems), verdict.problems
