"""Doubt is reported: what may have landed is tried again and then called confirmed; no doubtful success counts."""

from pathlib import Path

import pytest

from tests.support.simulator import sale, simulator_process
from tests.support.workers import Deployment, deployment
from trackdesk_producer import ReceiptStatus, State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

QUICK = {
    "TRACKDESK_TIMEOUT_S": "2",
    "TRACKDESK_BACKOFF_BASE_S": "0.1",
    "TRACKDESK_BACKOFF_CAP_S": "0.5",
    "TRACKDESK_BREAKER_FAILURES": "50",
}


def _ends(run: Deployment, ids: list[str]) -> dict[str, tuple[State, str | None]]:
    jobs = {external_id: run.producer.get(external_id) for external_id in ids}
    return {external_id: (job.state, job.reason) for external_id, job in jobs.items() if job is not None}


def test_commit_then_drop_in_30_percent_of_calls_ends_delivered_once_and_is_said_to_be_confirmed(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    ids = [f"order-{number}" for number in range(400)]
    with (
        simulator_process(faults={"commit_then_drop": 0.3}, seed=5) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        run.start_worker(QUICK)
        book = run.wait_until_finished()

        ends = _ends(run, ids)
        refused = trackdesk.stats()["duplicates_refused"]
        confirmed = [i for i, end in ends.items() if end == (State.DELIVERED, "confirmed_duplicate")]
        paired = [i for i, end in ends.items() if end == (State.DELIVERED, "paired")]
        assert len(confirmed) + len(paired) == len(ids), ends
        assert 80 <= len(confirmed) <= 160, "about 30 % of the answers were lost after the commit"
        assert len(confirmed) <= refused, "each doubt was settled by a refused repeat, whose answer may be lost as well"
        assert book.jobs["delivered_confirmed_duplicate"] == len(confirmed)
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()


@pytest.mark.parametrize("value", ["100.50", "9.99"], ids=["same amount", "another amount"])
def test_a_sale_that_trackdesk_already_has_at_the_first_clean_attempt_ends_with_a_person(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, value: str
) -> None:
    with (
        simulator_process() as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        assert trackdesk.post("acme", sale("order-1", amount={"value": value})) == 200
        run.producer.enqueue(sale("order-1"))
        run.start_worker(QUICK)
        book = run.wait_until_finished()

        assert _ends(run, ["order-1"]) == {"order-1": (State.DEAD, "unverified_duplicate")}
        assert book.jobs["delivered"] == 0
        assert trackdesk.ids(tenant="acme") == ["order-1"], "only the other system's"


def test_a_changed_amount_is_refused_loudly_and_the_first_one_stands(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process() as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue(sale("order-1"))
        before = run.producer.enqueue(sale("order-1", amount={"value": "1.00"}))
        run.start_worker(QUICK)
        run.wait_until_finished()
        after = run.producer.enqueue(sale("order-1", amount={"value": "2.00"}))

        assert (before.status, after.status) == (ReceiptStatus.CONFLICT, ReceiptStatus.CONFLICT)
        assert not before.ok
        assert not after.ok
        assert run.book().jobs["conflicts"] == 2
        assert [row["amount"] for row in trackdesk.ledger(tenant="acme")["rows"]] == ["100.50"]
