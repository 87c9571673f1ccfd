"""`enqueue_many` prepares and sends a batch while the store works on the one before."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.frozen import resume, suspend
from tests.support.producers import KINDS, AnyProducer, sale, within
from tests.support.store_check import check_store
from tests.support.waiting import let_pass
from trackdesk_producer import QueueUnavailable, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

MANY = 1_700
"""Four round trips."""


@pytest.fixture(params=KINDS)
def producer(request: pytest.FixtureRequest, server: EmbeddedServer, keys: Keys) -> Iterator[AnyProducer]:
    with AnyProducer(request.param, server.url, tenant="acme", namespace=keys.namespace) as made:
        yield made


def test_receipts_come_in_order_and_the_first_of_two_equals_stands(
    producer: AnyProducer, client: redis.Redis, keys: Keys
) -> None:
    items = [sale(f"o-{number % 1_000}") for number in range(MANY)]
    items[1_600] = sale("o-600", amount={"value": "7"})
    items[900] = sale(None, cid=None)
    receipts = producer.enqueue_many(items)
    assert [receipt.external_id for receipt in receipts] == [item.get("externalId") for item in items]
    expected = [ReceiptStatus.ACCEPTED] * 1_000 + [ReceiptStatus.DUPLICATE] * 700
    expected[900], expected[1_600] = ReceiptStatus.REFUSED, ReceiptStatus.CONFLICT
    assert [receipt.status for receipt in receipts] == expected
    assert check_store(JobStore(client, keys)).books["acme"].jobs["accepted"] == 999


def test_a_store_that_lost_its_scripts_gets_them_again_in_order(producer: AnyProducer, client: redis.Redis) -> None:
    client.script_flush()
    receipts = producer.enqueue_many(sale(f"o-{number % 500}") for number in range(MANY))
    statuses = [receipt.status for receipt in receipts]
    assert statuses == [ReceiptStatus.ACCEPTED] * 500 + [ReceiptStatus.DUPLICATE] * 1_200


def test_a_caller_whose_items_fail_gets_the_failure_and_no_answers_of_others_later(producer: AnyProducer) -> None:
    def items() -> Iterator[dict[str, Any]]:
        yield from (sale(f"o-{number}") for number in range(1_200))
        raise LookupError("the shop's database is gone")

    with pytest.raises(LookupError):
        producer.enqueue_many(items())
    status = producer.get("o-1")
    assert status is not None
    assert status.external_id == "o-1"
    assert producer.get("o-none") is None
    assert producer.enqueue(sale("o-1")).status is ReceiptStatus.DUPLICATE


@pytest.mark.parametrize("kind", KINDS)
def test_items_that_come_slowly_do_not_use_up_the_deadline(kind: str, server: EmbeddedServer, keys: Keys) -> None:
    def items() -> Iterator[dict[str, Any]]:
        for number in range(MANY):
            if number % 500 == 250:
                let_pass(0.3)
            yield sale(f"o-{number}")

    with AnyProducer(kind, server.url, tenant="acme", namespace=keys.namespace, timeout_s=0.25) as producer:
        receipts = producer.enqueue_many(items())
    assert {receipt.status for receipt in receipts} == {ReceiptStatus.ACCEPTED}


@pytest.mark.parametrize("kind", KINDS)
def test_when_the_store_stops_in_the_middle_the_rest_is_refused_and_repeating_is_safe(
    kind: str, own_server: EmbeddedServer, keys: Keys
) -> None:
    def items() -> Iterator[dict[str, Any]]:
        for number in range(MANY):
            if number == 1_000:
                suspend(own_server)
            yield sale(f"o-{number}")

    with AnyProducer(kind, own_server.url, tenant="acme", namespace=keys.namespace, timeout_s=0.4) as producer:
        with within(3):
            receipts = producer.enqueue_many(items())
        resume(own_server)
        assert len(receipts) == MANY
        assert all(receipt.ok for receipt in receipts[:500])
        assert all(isinstance(receipt.error, QueueUnavailable) for receipt in receipts[1_000:])
        again = producer.enqueue_many(sale(f"o-{number}") for number in range(MANY))
        assert all(receipt.ok for receipt in again)
    with redis.Redis(port=own_server.port) as client:
        book = check_store(JobStore(client, keys)).books["acme"]
        assert (book.jobs["accepted"], book.jobs["conflicts"]) == (MANY, 0)


def test_a_slow_answer_shortens_no_later_call() -> None:
    """Of the blocking producer, whose socket keeps the limit that the last wait was given."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                let_pass(0.35)
                connection.sendall(b"$-1")
                let_pass(0.05)
                connection.sendall(b"\r\n")
                connection.recv(4096)
                let_pass(0.3)
                connection.sendall(b"$-1\r\n")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with AnyProducer("blocking", url, tenant="acme", timeout_s=0.55) as producer:
            assert producer.get("a") is None
            assert producer.get("b") is None
        thread.join(5)
