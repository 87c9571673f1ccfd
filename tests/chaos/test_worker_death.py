"""A worker that dies or is stopped loses nothing and pays nothing twice."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.simulator import SimulatorProcess, sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.chaos, pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

SHORT_LEASE = {"TRACKDESK_TIMEOUT_S": "2", "TRACKDESK_LEASE_S": "4", "TRACKDESK_CONCURRENCY": "200"}
SLOW_ANSWERS_S = 1.5
"""Long enough for a busy machine to have 200 requests in flight, once the first 315 answers have opened the window."""
PATIENT = {**SHORT_LEASE, "TRACKDESK_TIMEOUT_S": "7", "TRACKDESK_LEASE_S": "9"}


def test_kill_9_with_200_requests_in_flight_loses_nothing_and_pays_nothing_twice(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    ids = [f"order-{number}" for number in range(700)]
    with (
        simulator_process(latency_s=SLOW_ANSWERS_S) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        victim = run.start_worker(PATIENT)
        wait_until(lambda: trackdesk.stats()["in_flight"] >= 200, "200 requests in flight")

        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        held = run.book().jobs[State.IN_FLIGHT]
        run.start_worker(PATIENT)
        book = run.wait_until_finished()

        assert held >= 150, "the victim died holding its claims"
        assert book.jobs["delivered"] == len(ids)
        assert book.jobs["reclaimed"] == held
        assert book.jobs["delivered_confirmed_duplicate"] > 0, "requests of the victim had landed"
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()


def test_sigterm_ends_requests_in_flight_and_leaves_nothing_leased(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    ids = [f"order-{number}" for number in range(500)]
    with (
        simulator_process(latency_s=0.7) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        worker = run.start_worker(SHORT_LEASE)
        wait_until(lambda: trackdesk.stats()["in_flight"] >= 100, "requests in flight")

        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0, run.log_text()

        jobs = run.book().jobs
        assert jobs[State.IN_FLIGHT] == 0
        assert jobs[State.DELIVERED] >= 100
        assert jobs[State.DELIVERED] + jobs[State.READY] == len(ids)
        assert jobs["reclaimed"] == 0
        assert sorted(trackdesk.ids(tenant="acme")) == sorted(set(trackdesk.ids(tenant="acme")))
        assert len(trackdesk.ids(tenant="acme")) == jobs[State.DELIVERED], "nothing was sent and then forgotten"
        assert not run.worker_seen(), "it signed off"
        assert audit(run.store).discrepancies == ()


def test_a_process_that_died_is_replaced_by_its_supervisor(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    with deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        supervisor = run.start_worker(SHORT_LEASE, ["--processes", "2"])
        wait_until(lambda: run.client.zcard(keys.workers) == 2, "two workers registered")
        victim = int(run.client.zrange(keys.workers, 0, 0)[0].decode().rpartition(":")[2])

        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: run.client.zcard(keys.workers) == 3, "a third worker registered in the dead one's place")

        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(20) == 0
