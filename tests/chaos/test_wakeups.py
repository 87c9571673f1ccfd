"""Celery's hop is harmless: whatever happens to wake-ups, every sale is delivered once, and soon."""

import time
from pathlib import Path

import pytest

from tests.support.broker_proxy import Tampering, broker_proxy
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.maintenance.loop import PERIOD_S
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.chaos, pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

AT_ONCE = 200
ONE_BY_ONE = 12
SLACK_S = 1.0
"""Beyond one round of the maintenance: the request, the settlement, and a machine busy with other tests."""


@pytest.mark.parametrize("how", ["drop", "double", "late", "garble"])
def test_what_happens_to_wakeups_changes_no_outcome_and_little_time(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, how: str
) -> None:
    tampering = Tampering(how)
    with (
        simulator_process() as trackdesk,
        broker_proxy(server.port, tampering) as url,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        worker = run.start_worker({"TRACKDESK_REDIS_URL": url})
        wait_until(run.worker_seen, "the worker registered ")
        ids = [f"order-{number}" for number in range(AT_ONCE + ONE_BY_ONE)]
        run.producer.enqueue_many(sale(external_id) for external_id in ids[:AT_ONCE])
        wait_until(lambda: run.unfinished() == 0 or worker.poll() is not None, "finished")
        assert worker.poll() is None, run.log_text()
        waited = []
        for number in range(AT_ONCE, len(ids)):
            started = time.monotonic()
            run.producer.enqueue(sale(ids[number]))
            wait_until(lambda: run.book().jobs[State.DELIVERED] == number + 1, "delivered", poll_s=0.01)  # noqa: B023
            waited.append(time.monotonic() - started)

        assert tampering.met > 0, "no wake-up passed the proxy"
        assert max(waited) < PERIOD_S + SLACK_S, waited
        assert worker.poll() is None, run.log_text()
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()
        print(f"{how}: {tampering.met} wake-ups, slowest sale {max(waited):.2f} s")
