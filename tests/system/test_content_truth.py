"""What is called delivered is a row at Trackdesk with that content: its ledger decides, after every correction."""

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.acting import act_now
from tests.support.simulator import SimulatorProcess, sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import Deployment, deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.edit import EditInvalid, edit_and_redrive, propose

pytestmark = [pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

ANN = Operator("ann", "a correction")
ONE_TRY = {"TRACKDESK_TIMEOUT_S": "2", "TRACKDESK_MAX_ATTEMPTS": "1", "TRACKDESK_BREAKER_FAILURES": "50"}
"""A doubt is a dead letter at once, so that an operator may act on it."""
RETRYING = {**ONE_TRY, "TRACKDESK_MAX_ATTEMPTS": "20", "TRACKDESK_BACKOFF_BASE_S": "0.2"}

HEALTHY = {"faults": {"commit_then_drop": 0.0, "error_rate": 0.0}}


def correct(run: Deployment, changes: Mapping[str, str | None]) -> None:
    shown = propose(run.store, "acme/o-1", changes).shown
    edit_and_redrive(run.store, "acme/o-1", changes, ANN, expect=shown)


def end_of(run: Deployment) -> tuple[State, str | None]:
    run.wait_until_finished()
    job = run.producer.get("o-1")
    assert job is not None
    return job.state, job.reason


def rows(trackdesk: SimulatorProcess) -> list[tuple[str, str]]:
    return [(row["type"], row["amount"]) for row in trackdesk.ledger(tenant="acme")["rows"]]


def in_doubt(run: Deployment) -> None:
    """Sell one sale that Trackdesk records, but whose answer is lost."""
    run.producer.enqueue(sale("o-1"))
    run.start_worker(ONE_TRY)
    assert end_of(run) == (State.DEAD, "connection_lost")


def test_a_sale_that_may_have_landed_cannot_get_another_type_and_be_paid_twice(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process(faults={"commit_then_drop": 1.0}, types={"sale": {}, "purchase": {}}) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        in_doubt(run)
        trackdesk.configure(HEALTHY)
        with pytest.raises(EditInvalid, match=r"conversionTypeCode cannot change now: an attempt may have landed"):
            correct(run, {"conversionTypeCode": "purchase"})
        act_now(run.store, "redrive", ["acme/o-1"])
        assert end_of(run) == (State.DELIVERED, "confirmed_duplicate")
        assert rows(trackdesk) == [("sale", "100.50")]


def test_a_clean_refusal_is_remembered_through_a_later_doubt(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process() as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        assert trackdesk.post("acme", sale("o-1", amount={"value": "9.99"})) == 200, "another system's"
        run.producer.enqueue(sale("o-1"))
        run.start_worker(RETRYING)
        assert end_of(run) == (State.DEAD, "unverified_duplicate")

        trackdesk.configure({"faults": {"error_rate": 1.0}})
        before = trackdesk.stats()["requests"]
        act_now(run.store, "redrive", ["acme/o-1"])
        wait_until(lambda: trackdesk.stats()["requests"] > before, "an attempt that may have landed")
        trackdesk.configure(HEALTHY)
        assert end_of(run) == (State.DEAD, "unverified_duplicate")
        assert rows(trackdesk) == [("sale", "9.99")]


def test_a_corrected_amount_is_delivered_only_as_trackdesk_has_it(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process(faults={"commit_then_drop": 1.0}) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        in_doubt(run)
        trackdesk.configure(HEALTHY)
        correct(run, {"amount": "5.00"})
        assert end_of(run) == (State.DEAD, "duplicate_differs")
        assert run.book().jobs["delivered"] == 0
        correct(run, {"amount": "100.50"})
        assert end_of(run) == (State.DELIVERED, "confirmed_duplicate")
        assert rows(trackdesk) == [("sale", "100.50")]
        assert run.book().money["delivered"] == {"EUR": Decimal("100.50")}
        assert audit(run.store).discrepancies == ()
