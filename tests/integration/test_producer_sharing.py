"""One producer used by many: threads, forked children, tasks of one loop."""

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from tests.support.producers import sale, silent_listener
from tests.support.store_check import check_store
from tests.support.waiting import let_loop_turn
from trackdesk_producer import AsyncProducer, Producer, QueueUnavailable, Receipt, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

FORKING_SHOP = """
import os, sys
from trackdesk_producer import Producer

url, namespace = sys.argv[1:]
producer = Producer(url, tenant="acme", namespace=namespace)

def sell(who, number):
    for n in range(number):
        name = f"{who}-{n}"
        sale = {"conversionTypeCode": "sale", "cid": "6f1c", "externalId": name}
        receipt = producer.enqueue(sale)
        assert (receipt.status, receipt.external_id) == ("accepted", name), receipt
        assert producer.get(name).external_id == name

sell("before", 3)  # the connection is open and warm when the process forks
children = []
for number in range(3):
    child = os.fork()
    if not child:
        code = 1
        try:
            sell(f"child{number}", 60)
            code = 0
        finally:
            os._exit(code)
    children.append(child)
sell("parent", 60)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


def test_a_producer_survives_a_fork_in_parent_and_children(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    command = [sys.executable, "-c", FORKING_SHOP, server.url, keys.namespace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(check_store(JobStore(client, keys)).records) == 3 + 4 * 60


def test_threads_share_a_producer_and_each_gets_its_own_receipts(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    with Producer(server.url, tenant="acme", namespace=keys.namespace) as producer:

        def sell(thread: int) -> list[str]:
            said: list[str] = []
            for n in range(60):
                name = f"o-{n}" if n % 2 else f"o-{thread}-{n}"  # every other one is everybody's
                receipt = producer.enqueue(sale(name))
                assert receipt.external_id == name
                status = producer.get(name)
                assert status is not None
                assert status.external_id == name
                said.append(receipt.status)
            return said

        with ThreadPoolExecutor(8) as pool:
            said = Counter(status for result in pool.map(sell, range(8)) for status in result)
    assert said == {ReceiptStatus.ACCEPTED: 8 * 30 + 30, ReceiptStatus.DUPLICATE: 7 * 30}
    check_store(JobStore(client, keys))


async def test_tasks_share_a_producer_and_each_gets_its_own_receipts(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    async with AsyncProducer(server.url, tenant="acme", namespace=keys.namespace) as producer:

        async def sell(task: int) -> list[str]:
            said: list[str] = []
            for n in range(20):
                name = f"o-{n}" if n % 2 else f"o-{task}-{n}"
                receipt = await producer.enqueue(sale(name))
                assert receipt.external_id == name
                said.append(receipt.status)
            return said

        said = Counter(status for result in await asyncio.gather(*map(sell, range(16))) for status in result)
    assert said == {ReceiptStatus.ACCEPTED: 16 * 10 + 10, ReceiptStatus.DUPLICATE: 15 * 10}
    check_store(JobStore(client, keys))


async def test_a_cancelled_task_leaves_no_reply_behind_for_the_next(server: EmbeddedServer, keys: Keys) -> None:
    async with AsyncProducer(server.url, tenant="acme", namespace=keys.namespace) as producer:
        for n in range(40):
            await producer.enqueue(sale(f"o-{n}"))
        for n in range(40):
            call = asyncio.create_task(producer.get(f"o-{n}"))
            await let_loop_turn(n % 8)  # cancelled at another point of the round trip each time
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            status = await producer.get(f"o-{39 - n}")
            assert status is not None
            assert status.external_id == f"o-{39 - n}"


MANY = 1_000
PATIENT: dict[str, Any] = {"timeout_s": 20.0, "connect_timeout_s": 5.0}
"""For a machine that does other work: the order of the calls is the test's matter, not their speed."""


def _in_threads(count: int, work: Callable[[int], Receipt]) -> list[Receipt]:
    """Let so many threads begin at once."""
    start = threading.Barrier(count)

    def one(number: int) -> Receipt:
        start.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.mark.parametrize("limit", [100, 3])
def test_a_thousand_threads_share_a_producer_and_its_connections(
    server: EmbeddedServer, client: redis.Redis, keys: Keys, limit: int
) -> None:
    with Producer(server.url, tenant="acme", namespace=keys.namespace, max_connections=limit, **PATIENT) as producer:
        before = client.info("clients")["connected_clients"]
        receipts = _in_threads(MANY, lambda number: producer.enqueue(sale(f"o-{number}")))
        opened = client.info("clients")["connected_clients"] - before
    assert {receipt.status for receipt in receipts} == {ReceiptStatus.ACCEPTED}
    assert opened <= limit
    check_store(JobStore(client, keys))


@pytest.mark.parametrize("limit", [100, 3])
async def test_a_thousand_tasks_share_a_producer_and_its_connections(
    server: EmbeddedServer, client: redis.Redis, keys: Keys, limit: int
) -> None:
    async with AsyncProducer(
        server.url, tenant="acme", namespace=keys.namespace, max_connections=limit, **PATIENT
    ) as producer:
        before = client.info("clients")["connected_clients"]
        receipts = await asyncio.gather(*(producer.enqueue(sale(f"o-{number}")) for number in range(MANY)))
        opened = client.info("clients")["connected_clients"] - before
    assert {receipt.status for receipt in receipts} == {ReceiptStatus.ACCEPTED}
    assert opened <= limit
    check_store(JobStore(client, keys))


def test_threads_that_get_no_connection_in_time_learn_that_and_not_that_the_store_was_silent(keys: Keys) -> None:
    with (
        silent_listener() as url,
        Producer(url, tenant="acme", namespace=keys.namespace, max_connections=1, timeout_s=0.3) as producer,
    ):

        def refused(number: int) -> str:
            with pytest.raises(QueueUnavailable) as caught:
                producer.enqueue(sale(f"o-{number}"))
            return caught.value.what

        start = threading.Barrier(4)

        def one(number: int) -> str:
            start.wait(10)
            return refused(number)

        with ThreadPoolExecutor(4) as pool:
            said = Counter(pool.map(one, range(4)))
        busy = [what for what in said.elements() if "in use" in what]
        assert len(busy) == 3
        assert "max_connections" in busy[0]
        assert said["the store gave no answer within 0.3 s"] == 1
        assert refused(5) == "the store gave no answer within 0.3 s"  # the connection is free again


async def test_tasks_that_get_no_connection_in_time_learn_that_and_not_that_the_store_was_silent(keys: Keys) -> None:
    with silent_listener() as url:
        async with AsyncProducer(
            url, tenant="acme", namespace=keys.namespace, max_connections=1, timeout_s=0.3
        ) as producer:
            answers = await asyncio.gather(
                *(producer.enqueue(sale(f"o-{number}")) for number in range(4)), return_exceptions=True
            )
    said = Counter(answer.what for answer in answers if isinstance(answer, QueueUnavailable))
    assert said["the store gave no answer within 0.3 s"] == 1
    assert sum(count for what, count in said.items() if "in use" in what) == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused_at_once(limit: int) -> None:
    for make in (Producer, AsyncProducer):
        with pytest.raises(ValueError, match="max_connections"):
            make(max_connections=limit)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_asyncio_producer_works_on_a_second_event_loop_after_the_first(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    producer = AsyncProducer(server.url, tenant="acme", namespace=keys.namespace)
    for number in range(3):
        receipt = asyncio.run(producer.enqueue(sale(f"o-{number}")))
        assert receipt.ok
    check_store(JobStore(client, keys))


def test_an_asyncio_producer_works_on_event_loops_of_several_threads(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    producer = AsyncProducer(server.url, tenant="acme", namespace=keys.namespace, **PATIENT)

    async def sell(number: int) -> Receipt:
        async with producer:
            await asyncio.gather(*(producer.enqueue(sale(f"o-{number}-{n}")) for n in range(20)))
            return await producer.enqueue(sale("o-all"))

    receipts = _in_threads(4, lambda number: asyncio.run(sell(number)))
    assert Counter(receipt.status for receipt in receipts) == {ReceiptStatus.ACCEPTED: 1, ReceiptStatus.DUPLICATE: 3}
    assert len(check_store(JobStore(client, keys)).records) == 4 * 20 + 1
