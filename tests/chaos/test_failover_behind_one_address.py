"""A failover behind one address: connections stay with the old master, which answers READONLY from then on."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import SERVERS, server_binary
from tests.support.one_address import OneAddress, one_address
from tests.support.producers import KINDS, AnyProducer, within
from tests.support.simulator import sale, simulator_process
from tests.support.workers import deployment, wait_until
from trackdesk_producer import Producer, ProducerError, State
from trackdesk_producer._redis import tenure
from trackdesk_producer._redis.connections import open_async_client, open_client
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.chaos, pytest.mark.system]

RECOVERS_WITHIN_S = 15.0
QUICK = {"TRACKDESK_TIMEOUT_S": "2", "TRACKDESK_LEASE_S": "5", "TRACKDESK_CONCURRENCY": "16"}
WITHOUT_MASTER_S = 4.0
LINES_PER_S = 10
"""What a worker may log while every answer of its store is a refusal."""


@pytest.fixture(params=SERVERS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OneAddress]:
    with one_address(tmp_path / "store", server_binary(request.param)) as running:
        yield running


def _sell(producer: AnyProducer, ids: list[str], *, within_s: float = RECOVERS_WITHIN_S) -> None:
    """Enqueue as a shop does: again until each sale has its receipt, on two servers."""
    waiting = list(ids)

    def sold() -> bool:
        receipts = producer.enqueue_many([sale(i) for i in waiting], durability="replicated")
        waiting[:] = [i for i, receipt in zip(waiting, receipts, strict=True) if not receipt.ok]
        return not waiting

    wait_until(sold, "every sale has its receipt", within_s=within_s)


@pytest.mark.timeout(120)
def test_a_worker_and_producers_in_use_follow_the_address_and_nothing_is_lost(
    store: OneAddress, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process(latency_s=0.05) as trackdesk,
        deployment(store, keys, tmp_path, trackdesk.base_url) as run,
        AnyProducer("blocking", store.url, tenant="acme", namespace=keys.namespace) as blocking,
        AnyProducer("asyncio", store.url, tenant="acme", namespace=keys.namespace) as on_asyncio,
    ):
        worker = run.start_worker({**QUICK, "TRACKDESK_RATE_LIMIT": "20", "TRACKDESK_BURST": "1"})
        wait_until(store.listens, "the worker listens")
        _sell(blocking, [f"before-{n}" for n in range(60)])
        _sell(on_asyncio, [f"before-{n}" for n in range(60, 80)])
        wait_until(lambda: run.book().jobs[State.DELIVERED] >= 20, "deliveries under way")

        store.demote()
        logged = len(run.log_text())
        demoted = time.monotonic()
        while time.monotonic() < demoted + WITHOUT_MASTER_S:  # neither is the answer to a call that cannot be kept
            for producer in (blocking, on_asyncio):
                with within(2.5), pytest.raises(ProducerError):
                    producer.enqueue(sale("refused"))
        lines_per_s = run.log_text()[logged:].count("\n") / (time.monotonic() - demoted)
        delivered = trackdesk.ids(tenant="acme")
        store.follow()

        returned = time.monotonic()
        wait_until(
            lambda: len(trackdesk.ids(tenant="acme")) > len(delivered), "deliveries go on", within_s=RECOVERS_WITHIN_S
        )
        wait_until(store.listens, "Celery listens", within_s=RECOVERS_WITHIN_S - (time.monotonic() - returned))
        store.replicate()
        _sell(blocking, [f"after-{n}" for n in range(10)], within_s=5)
        _sell(on_asyncio, [f"after-{n}" for n in range(10, 20)], within_s=5)
        book = run.wait_until_finished()

        assert worker.poll() is None, run.log_text()
        assert "\nTraceback" not in run.log_text()
        assert lines_per_s < LINES_PER_S
        assert book.jobs[State.DEAD] == 0
        ids = trackdesk.ids(tenant="acme")
        assert sorted(ids) == sorted([f"before-{n}" for n in range(80)] + [f"after-{n}" for n in range(20)])
        assert audit(run.store).discrepancies == ()


@pytest.mark.parametrize("kind", KINDS)
def test_the_call_after_a_refused_one_reaches_the_new_master(kind: str, store: OneAddress, keys: Keys) -> None:
    with AnyProducer(kind, store.url, tenant="acme", namespace=keys.namespace) as producer:
        assert producer.enqueue(sale("order-1")).ok
        store.demote()
        store.follow()
        with pytest.raises(ProducerError, match="replica"):
            producer.enqueue(sale("order-2"))
        assert producer.enqueue(sale("order-2")).ok


@pytest.mark.parametrize("store", ["valkey"], indirect=True)
@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_connection_that_outlives_its_servers_role_is_caught(
    kind: str, store: OneAddress, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure.Tenure, "is_over", lambda *_: False)
    with pytest.raises(ProducerError, match="replica"):
        test_the_call_after_a_refused_one_reaches_the_new_master(kind, store, keys)


def test_one_refusal_renews_every_connection_of_a_producer(store: OneAddress, keys: Keys) -> None:
    with (
        Producer(store.url, tenant="acme", namespace=keys.namespace, timeout_s=5) as producer,
        ThreadPoolExecutor(8) as pool,
    ):
        together = threading.Barrier(8)

        def sell(number: int) -> None:
            together.wait(10)
            producer.enqueue_many(sale(f"order-{number}-{n}") for n in range(1_500))

        list(pool.map(sell, range(8)))  # leaves several connections behind
        store.demote()
        store.follow()
        with pytest.raises(ProducerError, match="replica"):
            producer.enqueue(sale("order-1"))
        for number in range(8):
            assert producer.enqueue(sale(f"order-{number}")).ok


def test_a_reader_leaves_a_server_that_refuses_nothing(store: OneAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenure, "MAX_AGE_S", 0.2)

    def role(info: dict[str, str]) -> str:
        return info["role"]

    with open_client(store.url) as blocking, asyncio.Runner() as runner:
        on_asyncio = open_async_client(store.url)

        async def ask() -> str:
            return role(await on_asyncio.info("replication"))

        assert role(blocking.info("replication")) == "master"
        assert runner.run(ask()) == "master"
        store.demote()
        store.follow()
        wait_until(lambda: role(blocking.info("replication")) == "master", "the reader follows", within_s=5)
        wait_until(lambda: runner.run(ask()) == "master", "so does the other")
        runner.run(on_asyncio.aclose())
