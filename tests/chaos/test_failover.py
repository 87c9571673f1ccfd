"""Redis behind Sentinels: the master dies under load, and nobody has to do anything."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frozen import resume, suspend
from tests.support.producers import KINDS, AnyProducer
from tests.support.sentinels import FAILOVER_WITHIN_S, Sentinels, sentinels
from tests.support.simulator import sale, simulator_process
from tests.support.workers import deployment, wait_until
from trackdesk_producer import Producer, ProducerError, State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.chaos, pytest.mark.system]

QUICK = {"TRACKDESK_TIMEOUT_S": "2", "TRACKDESK_LEASE_S": "5", "TRACKDESK_CONCURRENCY": "50"}


@pytest.fixture
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sentinels]:
    with sentinels(tmp_path / "cluster", tls=getattr(request, "param", "plain") == "tls") as running:
        yield running


class Till:
    """A shop that sells without a pause, and notes what was acknowledged."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.acknowledged: list[str] = []
        self.refused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sell)

    def __enter__(self) -> "Till":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sell(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                self._producer.enqueue(sale(f"order-{number}"))
            except ProducerError:
                self.refused += 1
                time.sleep(0.02)  # what a shop does before it goes on; the sale is not repeated, to see what is lost
            else:
                self.acknowledged.append(f"order-{number}")


@pytest.mark.parametrize(
    ("cluster", "how"),
    [
        ("plain", "killed"),
        pytest.param("tls", "killed", marks=pytest.mark.slow),
        pytest.param("plain", "relieved", marks=pytest.mark.slow),
        ("tls", "relieved"),
    ],
    indirect=["cluster"],
)
def test_a_master_that_dies_or_is_relieved_costs_no_acknowledged_sale_and_work_goes_on_by_itself(
    cluster: Sentinels, keys: Keys, tmp_path: Path, how: str
) -> None:
    with (
        simulator_process(latency_s=0.05) as trackdesk,
        deployment(cluster, keys, tmp_path, trackdesk.base_url) as run,
        Producer(
            cluster.url, tenant="acme", namespace=keys.namespace, durability="replicated", timeout_s=2
        ) as producer,
    ):
        worker = run.start_worker(QUICK)
        with Till(producer) as till:
            wait_until(lambda: len(till.acknowledged) > 200, "sales are acknowledged")
            wait_until(lambda: run.book().jobs[State.DELIVERED] > 50, "and delivered")
            before = len(till.acknowledged)
            old = cluster.kill_master() if how == "killed" else cluster.relieve_master()
            cluster.wait_for_failover(old)
            delivered = run.book().jobs[State.DELIVERED]
            wait_until(lambda: len(till.acknowledged) > before + 100, "sales go on", within_s=FAILOVER_WITHIN_S)
            wait_until(
                lambda: run.book().jobs[State.DELIVERED] > delivered, "deliveries go on", within_s=FAILOVER_WITHIN_S
            )
        if how == "killed":
            old.start()  # comes back as a replica, whatever it held
        book = run.wait_until_finished()

        assert till.refused > 0, "the failover was not noticed: it was no failover"
        assert worker.poll() is None, run.log_text()
        lost = [external_id for external_id in till.acknowledged if producer.get(external_id) is None]
        assert lost == []
        assert book.jobs[State.DEAD] == 0
        ids = trackdesk.ids(tenant="acme")
        assert len(ids) == len(set(ids)), "nothing was paid twice"
        assert set(till.acknowledged) <= set(ids)
        assert audit(run.store).discrepancies == ()


def test_a_master_without_replicas_refuses_sales_instead_of_losing_them(cluster: Sentinels, keys: Keys) -> None:
    with Producer(cluster.url, tenant="acme", namespace=keys.namespace, timeout_s=2) as producer:
        producer.enqueue(sale("order-1"))
        for replica in cluster.servers[1:]:
            suspend(replica)

        def refused() -> bool:
            try:
                producer.enqueue(sale("order-1"))
            except ProducerError as error:
                return "NOREPLICAS" in str(error)
            return False

        wait_until(refused, "the master notices that it is alone", within_s=15)
        for replica in cluster.servers[1:]:
            resume(replica)
        wait_until(lambda: not refused(), "and that it is not any more", within_s=15)


@pytest.mark.parametrize("cluster", ["tls"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_both_producers_find_the_master_when_a_sentinel_is_gone(kind: str, cluster: Sentinels, keys: Keys) -> None:
    cluster._processes[0].kill()
    with AnyProducer(kind, cluster.url, tenant="acme", namespace=keys.namespace) as producer:
        assert producer.enqueue(sale("order-1"), durability="replicated").ok
        assert producer.get("order-1") is not None
