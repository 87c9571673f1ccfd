"""Checks that can fail: each bug is planted in a test build only, and caught by the check that guards against it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.integration import test_maintenance
from tests.property.test_store_state_machine import StoreMachine
from tests.support.crash_points import BY_NAME
from tests.support.duties import Clock, Duties
from tests.support.matrix_plan import Plan, StoreFault
from tests.support.matrix_run import carry_out
from tests.support.planted import BOOKS_OUTSIDE, CLEAN_DUPLICATE, EDITS, PARTS, HastyProducer, plant
from tests.support.simulator import simulator_process
from tests.support.store import Store
from tests.unit import test_tenants
from tests.unit.telemetry import test_log_writer
from trackdesk_producer import Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.local.embedded import EmbeddedServer

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
            run_state_machine_as_test(lambda: StoreMachine(client), settings=FEW)  # type: ignore[arg-type] # a factory
    finally:
        take_out()


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_the_tests_of_one_part_catch_its_bugs(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKDESK_CONFIG", raising=False)
    file, clock = tmp_path / "tenants.toml", Clock()

    def load(text: str) -> Tenants:
        file.write_text(text)
        return Tenants(load_settings(config=file), clock=clock)

    with redis.Redis(port=server.port) as client:
        store = Store(client, keys)
        damage = test_maintenance.test_damage_that_one_duty_meets_leaves_every_other_duty_at_work
        rewriting = test_tenants.test_no_part_of_a_file_that_is_rewritten_in_place_comes_into_force
        refusal = test_log_writer.test_a_descriptor_that_refuses_costs_lines_only
        newer = test_maintenance.poison_the_newer
        checks: dict[str, Callable[[], object]] = {
            "duties without a guard of their own": lambda: damage(store, Duties(store), newer),
            "a tenants file that applies at once": lambda: rewriting(load, file, clock),
            "a log written by the thread that logs": lambda: refusal("/dev/full"),
        }
        assert checks.keys() == PARTS.keys()
        for bug, check in checks.items():
            take_out = PARTS[bug]()
            try:
                with pytest.raises((AssertionError, redis.ResponseError, OSError)):
                    check()
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
