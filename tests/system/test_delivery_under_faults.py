"""Sales through real worker processes to a Trackdesk that misbehaves: all delivered, each exactly once."""

import os
from pathlib import Path

import pytest

from tests.support.simulator import sale, simulator_process
from tests.support.workers import deployment
from trackdesk_producer import ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

SALES = int(os.environ.get("TRACKDESK_TEST_SALES", "400"))
"""A smoke share in `make test`; `make test-full` sends 10,000 per profile."""

FAULTS = {
    "error_rate": 0.15,
    "error_statuses": [503],
    "commit_then_drop": 0.10,
    "commit_then_late": 0.025,
    "hang": 0.025,
    "late_s": 20,
    "hang_s": 20,
}
IMPATIENT = {
    "TRACKDESK_TIMEOUT_S": "1",
    "TRACKDESK_BACKOFF_BASE_S": "0.1",
    "TRACKDESK_BACKOFF_CAP_S": "1",
    "TRACKDESK_CONCURRENCY": "128",
    "TRACKDESK_BREAKER_FAILURES": "50",
    "TRACKDESK_BREAKER_PROBE_S": "0.2",  # requests that hang end together: enough of them open the breaker
    "TRACKDESK_BREAKER_PROBE_CAP_S": "1",
}


@pytest.mark.system
@pytest.mark.timeout(60 + SALES // 20)
@pytest.mark.parametrize("server", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    ("method", "profile"),
    [("POST", "gateway"), ("POST", "all-400"), ("POST", "all-500"), ("POST", "empty-body"), ("GET", "gateway")],
)
def test_every_sale_is_delivered_exactly_once_under_faults(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, method: str, profile: str
) -> None:
    ids = [f"order-{number}" for number in range(SALES)]
    with (
        simulator_process(profile=profile, faults=FAULTS, seed=3) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        receipts = run.producer.enqueue_many(sale(external_id) for external_id in ids)
        assert {receipt.status for receipt in receipts} == {ReceiptStatus.ACCEPTED}
        for _ in range(2):
            run.start_worker({**IMPATIENT, "TRACKDESK_METHOD": method})

        book = run.wait_until_finished(within_s=40 + SALES / 50)

        assert book.jobs["delivered"] == SALES, book.jobs
        assert book.jobs["delivered_confirmed_duplicate"] > 0, "the faults did not bite"
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()
