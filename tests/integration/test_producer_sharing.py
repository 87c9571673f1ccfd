"""One producer used by many: threads, forked children, tasks of one loop."""

import asyncio
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import redis

from tests.support.producers import sale
from tests.support.store_check import check_store
from trackdesk_producer import AsyncProducer, Producer, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops.embedded import EmbeddedServer

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
    assert len(check_store(client, keys).records) == 3 + 4 * 60


def test_threads_share_a_producer_and_each_gets_its_own_receipts(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    with Producer(server.url, tenant="acme", namespace=keys.namespace) as producer:

        def sell(thread: int) -> list[str]:
            said = []
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
    check_store(client, keys)


async def test_tasks_share_a_producer_and_each_gets_its_own_receipts(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    async with AsyncProducer(server.url, tenant="acme", namespace=keys.namespace) as producer:

        async def sell(task: int) -> list[str]:
            said = []
            for n in range(20):
                name = f"o-{n}" if n % 2 else f"o-{task}-{n}"
                receipt = await producer.enqueue(sale(name))
                assert receipt.external_id == name
                said.append(receipt.status)
            return said

        said = Counter(status for result in await asyncio.gather(*map(sell, range(16))) for status in result)
    assert said == {ReceiptStatus.ACCEPTED: 16 * 10 + 10, ReceiptStatus.DUPLICATE: 15 * 10}
    check_store(client, keys)


async def test_a_cancelled_task_leaves_no_reply_behind_for_the_next(server: EmbeddedServer, keys: Keys) -> None:
    async with AsyncProducer(server.url, tenant="acme", namespace=keys.namespace) as producer:
        for n in range(40):
            await producer.enqueue(sale(f"o-{n}"))
        for n in range(40):
            call = asyncio.create_task(producer.get(f"o-{n}"))
            for _ in range(n % 8):  # cancelled at another point of the conversation each time
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            status = await producer.get(f"o-{39 - n}")
            assert status is not None
            assert status.external_id == f"o-{39 - n}"
