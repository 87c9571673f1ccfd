"""A worker that is stopped for longer than its lease and then goes on sends nothing without a new claim."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.simulator import SimulatorProcess, sale, simulator_process
from tests.support.store_check import check_store
from tests.support.workers import Deployment, deployment, wait_until
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, job_id
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.chaos, pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

SHORT_LEASE = {"TRACKDESK_TIMEOUT_S": "1", "TRACKDESK_LEASE_S": "3", "TRACKDESK_CONCURRENCY": "16"}
STOPS_WITH_A_CLAIM = """
import signal, threading
from trackdesk_worker.delivery.loop import DeliveryLoop
claimed, stops = DeliveryLoop._claimed, [True]
def stopped(self, claims, sent_at, took_s):
    if claims.jobs and stops:
        stops.clear()
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    claimed(self, claims, sent_at, took_s)
DeliveryLoop._claimed = stopped
"""
"""The process stops between a claim's reply and the first request of that claim.

The signal goes to the thread that claims: one to the process may be taken by another thread, while this one goes on.
"""


def is_stopped(process: "subprocess.Popen[bytes]") -> bool:
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


def go_on(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGCONT)


def end(process: "subprocess.Popen[bytes]", run: Deployment) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0, run.log_text()


def attempts(run: Deployment, ids: list[str]) -> int:
    raws = run.client.mget(run.keys.job(job_id("acme", external_id)) for external_id in ids)
    return sum(JobRecord.parse("acme/x", raw).attempts_total for raw in raws if raw is not None)


def judge(run: Deployment, trackdesk: SimulatorProcess, ids: list[str]) -> None:
    """Compare everything with Trackdesk's ledger, at rest."""
    book = run.book()
    assert book.jobs[State.DELIVERED] == len(ids)
    once = trackdesk.exactly_once(ids, tenant="acme")
    assert once.ok, once
    assert attempts(run, ids) >= len(ids) + book.jobs["reclaimed"], "an attempt is on record, sent or not"
    assert trackdesk.stats()["requests"] <= attempts(run, ids), "each request has an attempt of its own"
    assert audit(run.store).discrepancies == ()
    check_store(run.store)


@pytest.mark.parametrize("planted", [None, STOPS_WITH_A_CLAIM], ids=["requests in flight", "claims not yet sent"])
def test_what_another_worker_took_over_is_not_sent_again_by_the_one_that_was_stopped(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, planted: str | None
) -> None:
    ids, more = [f"order-{number}" for number in range(60)], [f"later-{number}" for number in range(5)]
    with (
        simulator_process(latency_s=0.3) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        stopped = run.start_worker(SHORT_LEASE, planted=planted)
        if planted is None:
            wait_until(lambda: trackdesk.stats()["in_flight"] >= 5, "requests in flight")
            os.killpg(stopped.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(stopped), "the worker is stopped")
        beside = run.start_worker(SHORT_LEASE)
        assert run.wait_until_finished().jobs["reclaimed"] >= 1, "it was stopped with claims"
        end(beside, run)
        sent = trackdesk.stats()["requests"]

        go_on(stopped)
        run.producer.enqueue_many(sale(external_id) for external_id in more)
        run.wait_until_finished()
        end(stopped, run)

        assert trackdesk.stats()["requests"] == sent + len(more), "it sent only what it claimed again"
        judge(run, trackdesk, ids + more)


def test_a_worker_alone_that_was_stopped_delivers_each_sale_once(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    ids = [f"order-{number}" for number in range(60)]
    with (
        simulator_process(latency_s=0.3) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        stopped = run.start_worker(SHORT_LEASE)
        wait_until(lambda: trackdesk.stats()["in_flight"] >= 5, "requests in flight")
        os.killpg(stopped.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(stopped), "the worker is stopped")

        def leases_are_over() -> bool:
            seconds, _ = run.client.time()
            leases = run.client.zrange(keys.in_flight, 0, -1, withscores=True)
            return bool(leases) and seconds * 1000 > max(end_ms for _, end_ms in leases)

        wait_until(leases_are_over, "the leases of the stopped worker end")
        go_on(stopped)
        run.wait_until_finished()
        end(stopped, run)
        judge(run, trackdesk, ids)
