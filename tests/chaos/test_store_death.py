"""A store that dies, hangs or comes back: workers wait and go on by themselves."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frozen import resume, suspend
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.chaos, pytest.mark.system]

SHORT_LEASE = {"TRACKDESK_TIMEOUT_S": "2", "TRACKDESK_LEASE_S": "5", "TRACKDESK_CONCURRENCY": "50"}
RESUMES_WITHIN_S = 15


@pytest.fixture
def always_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "store", config={"appendfsync": "always"})
    server.start()
    yield server
    resume(server)
    server.stop()


def test_kill_9_of_the_store_in_the_middle_of_work_loses_no_accepted_sale(
    always_server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    ids = [f"order-{number}" for number in range(800)]
    with (
        simulator_process(latency_s=0.1) as trackdesk,
        deployment(always_server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        worker = run.start_worker(SHORT_LEASE)
        wait_until(lambda: run.book().jobs[State.DELIVERED] > 50, "deliveries under way")

        always_server.kill()
        always_server.start()
        delivered = run.book().jobs[State.DELIVERED]
        wait_until(
            lambda: run.book().jobs[State.DELIVERED] > delivered,
            "the same worker goes on by itself",
            within_s=RESUMES_WITHIN_S,
        )
        book = run.wait_until_finished()

        assert worker.poll() is None, run.log_text()
        assert book.jobs["delivered"] == len(ids)
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()


def test_a_store_that_hangs_holds_work_up_and_costs_nothing(
    own_server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    ids = [f"order-{number}" for number in range(600)]
    with (
        simulator_process(latency_s=0.1) as trackdesk,
        deployment(own_server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        run.start_worker(SHORT_LEASE)
        wait_until(lambda: run.book().jobs[State.DELIVERED] > 50, "deliveries under way")

        suspend(own_server)
        wait_until(lambda: trackdesk.stats()["in_flight"] == 0, "requests in flight end without the store")
        resume(own_server)
        book = run.wait_until_finished()

        assert book.jobs["delivered"] == len(ids)
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()


def test_a_worker_started_without_a_store_waits_for_it_and_stops_at_a_signal(keys: Keys, tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "late")
    with (
        simulator_process() as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        worker = run.start_worker(SHORT_LEASE)
        wait_until(lambda: "store.unavailable" in run.log_text(), "the worker says that its store is away")
        server.start()
        try:
            wait_until(run.worker_seen, "the worker registered by itself", within_s=RESUMES_WITHIN_S)
            run.producer.enqueue(sale("order-1"))
            run.wait_until_finished()
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(15) == 0
        finally:
            server.stop()
