"""A store that is away, frozen or half-open: every call ends in time, and repeating it is safe."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from tests.support.frozen import resume, suspend
from tests.support.producers import (
    KINDS,
    AnyProducer,
    answering,
    closed_port,
    sale,
    silent_listener,
    unreachable_listener,
    within,
)
from tests.support.store_check import check_store
from trackdesk_producer import QueueUnavailable, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

SHORT = {"timeout_s": 0.4, "connect_timeout_s": 0.15}
TOLERANCE_S = 0.4  # the machine is busy


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def calls(producer: AnyProducer) -> list[Callable[[], object]]:
    return [
        lambda: producer.enqueue(sale("order-1")),
        lambda: producer.get("order-1"),
        lambda: producer.cancel("order-1"),
    ]


@pytest.fixture
def half_open() -> Iterator[str]:
    """A store that accepts, reads, begins an answer and never ends it."""
    held = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            held.append(connection)
            connection.recv(1)
            connection.sendall(b"*1\r\n$14\r\naccep")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for connection in held:
        connection.close()


@pytest.fixture
def dripping() -> Iterator[str]:
    """A store whose answer never ends, and never pauses for long either."""
    over = threading.Event()
    senders = []

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"$1000\r\n")
            while not over.wait(0.05):
                connection.sendall(b"x")

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                senders.append(threading.Thread(target=drip, args=(connection,)))
                senders[-1].start()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
    for running in (thread, *senders):
        running.join(5)


def test_a_closed_port_is_reported_at_once(kind: str) -> None:
    with AnyProducer(kind, closed_port(), tenant="acme") as producer:
        for call in calls(producer):
            with within(0.5), pytest.raises(QueueUnavailable, match="no store accepts connections"):
                call()


def test_with_the_defaults_a_silent_store_costs_a_second(kind: str) -> None:
    with silent_listener() as url, AnyProducer(kind, url, tenant="acme") as producer:
        with within(1 + TOLERANCE_S), pytest.raises(QueueUnavailable):
            producer.enqueue(sale("order-1"))
        with within(1 + TOLERANCE_S), pytest.raises(QueueUnavailable):
            producer.enqueue(sale("order-1"))


def test_a_silent_store_ends_each_call_within_its_deadline(kind: str) -> None:
    with silent_listener() as url, AnyProducer(kind, url, tenant="acme", **SHORT) as producer:
        for call in calls(producer):
            with within(0.4 + TOLERANCE_S), pytest.raises(QueueUnavailable):
                call()


def test_a_store_that_cannot_be_connected_to_costs_the_connect_limit(kind: str) -> None:
    with unreachable_listener() as url, AnyProducer(kind, url, tenant="acme", **SHORT) as producer:
        for call in calls(producer):
            with within(0.4 + TOLERANCE_S), pytest.raises(QueueUnavailable):
                call()


@pytest.mark.parametrize("url", ["redis://many.example:{port}/0", "sentinel://a.example:{port},b.example:{port}/m"])
def test_a_name_with_many_addresses_that_cannot_be_reached_does_not_stretch_the_deadline(
    kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = socket.getaddrinfo
    with unreachable_listener() as reached:
        port = int(reached.rpartition(":")[2].removesuffix("/0"))

        def many(_: str, asked: int, *__: object, **___: object) -> list[Any]:
            return right("127.0.0.1", asked, socket.AF_INET, socket.SOCK_STREAM) * 12

        monkeypatch.setattr(socket, "getaddrinfo", many)
        with AnyProducer(kind, url.format(port=port), tenant="acme", **SHORT) as producer:
            for call in calls(producer):
                with within(0.4 + TOLERANCE_S), pytest.raises(QueueUnavailable):
                    call()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-5\r\n", b"-ERR DB index is out of range\r\n"]
)
def test_an_address_that_is_no_store_of_ours_is_reported_as_unavailable(kind: str, answer: bytes) -> None:
    with (
        answering(answer) as port,
        AnyProducer(kind, f"redis://127.0.0.1:{port}/7", tenant="acme") as producer,
    ):
        for call in calls(producer):
            with pytest.raises(QueueUnavailable):
                call()
        (receipt,) = producer.enqueue_many([sale("order-1")])
        assert receipt.status is ReceiptStatus.REFUSED


def test_half_an_answer_is_no_answer(kind: str, half_open: str) -> None:
    with AnyProducer(kind, half_open, tenant="acme", **SHORT) as producer:
        for call in calls(producer):
            with within(0.4 + TOLERANCE_S), pytest.raises(QueueUnavailable):
                call()


def test_an_answer_that_comes_drop_by_drop_does_not_stretch_the_deadline(kind: str, dripping: str) -> None:
    with AnyProducer(kind, dripping, tenant="acme", **SHORT) as producer:
        for call in calls(producer):
            with within(0.4 + TOLERANCE_S), pytest.raises(QueueUnavailable):
                call()


def test_a_greeting_that_is_never_answered_is_within_the_deadline_too(kind: str) -> None:
    with silent_listener() as url:
        whole = url.replace("redis://", "redis://user:secret@").replace("/0", "/3")
        with (
            AnyProducer(kind, whole, tenant="acme", **SHORT) as producer,
            within(0.4 + TOLERANCE_S),
            pytest.raises(QueueUnavailable) as caught,
        ):
            producer.enqueue(sale("order-1"))
        assert "secret" not in str(caught.value)


def test_the_error_names_the_sale_also_when_the_producer_named_it(kind: str) -> None:
    with AnyProducer(kind, closed_port(), tenant="acme") as producer:
        with pytest.raises(QueueUnavailable, match="with the same externalId is safe") as caught:
            producer.enqueue(sale("order-1"))
        assert caught.value.external_id == "order-1"
        with pytest.raises(QueueUnavailable) as caught:
            producer.enqueue(sale(None))
        assert re.fullmatch("td-.{22}", caught.value.external_id or "")


def test_many_wait_for_one_deadline_and_tell_each_item(kind: str) -> None:
    with (
        silent_listener() as url,
        AnyProducer(kind, url, tenant="acme", **SHORT) as producer,
        within(0.4 + 3 * TOLERANCE_S),
    ):
        receipts = producer.enqueue_many([*(sale(f"o-{n}") for n in range(2600)), sale("bad", cid=None)])
    assert len(receipts) == 2601
    assert {receipt.status for receipt in receipts} == {ReceiptStatus.REFUSED}
    assert all(isinstance(receipt.error, QueueUnavailable) for receipt in receipts[:2600])
    assert "cid" in str(receipts[2600].error), "what is invalid is reported as such, store or not"


def test_a_call_repeated_after_a_freeze_is_accepted_or_a_duplicate_and_never_two(
    kind: str, own_server: EmbeddedServer, keys: Keys
) -> None:
    with AnyProducer(kind, own_server.url, tenant="acme", namespace=keys.namespace, **SHORT) as producer:
        producer.enqueue(sale("warm"))
        suspend(own_server)
        for name in ("a", "b"):
            with within(0.4 + TOLERANCE_S), pytest.raises(QueueUnavailable):
                producer.enqueue(sale(name))
        resume(own_server)
        for name in ("a", "b"):
            assert producer.enqueue(sale(name)).ok
            assert producer.enqueue(sale(name)).status is ReceiptStatus.DUPLICATE
    with redis.Redis(port=own_server.port) as client:
        book = check_store(JobStore(client, keys)).books["acme"]
        assert (book.jobs["accepted"], book.jobs["conflicts"]) == (3, 0)


def test_a_late_reply_is_never_taken_for_the_next_calls(kind: str, own_server: EmbeddedServer, keys: Keys) -> None:
    with AnyProducer(kind, own_server.url, tenant="acme", namespace=keys.namespace, **SHORT) as producer:
        for name in ("first", "second", "third"):
            producer.enqueue(sale(name))
        for _ in range(2):
            suspend(own_server)
            with pytest.raises(QueueUnavailable):
                producer.get("first")
            resume(own_server)
            for name in ("second", "third"):
                status = producer.get(name)
                assert status is not None
                assert status.external_id == name
            assert producer.get("none") is None
            assert producer.cancel("none").status == "unknown"
            assert producer.enqueue(sale("second")).status is ReceiptStatus.DUPLICATE


def test_a_late_reply_on_a_connection_that_stays_open_is_never_read() -> None:
    """Also for the blocking producer, whose pool could hand the same socket to the next call."""
    connections = []
    gave_up = threading.Event()

    def serve(listener: socket.socket) -> None:
        first, _ = listener.accept()
        connections.append(first)
        first.recv(4096)
        gave_up.wait(5)
        with contextlib.suppress(OSError):
            first.sendall(b"$3\r\nOLD\r\n")
        second, _ = listener.accept()
        connections.append(second)
        second.recv(4096)
        second.sendall(b"$-1\r\n")

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with AnyProducer("blocking", url, tenant="acme", **SHORT) as producer:
            with pytest.raises(QueueUnavailable):
                producer.get("a")
            gave_up.set()
            assert producer.get("b") is None
        thread.join(5)
    for connection in connections:
        connection.close()


def test_a_store_that_restarted_is_found_again(kind: str, own_server: EmbeddedServer, keys: Keys) -> None:
    with AnyProducer(kind, own_server.url, tenant="acme", namespace=keys.namespace) as producer:
        assert producer.enqueue(sale("1")).status is ReceiptStatus.ACCEPTED
        own_server.stop()
        with pytest.raises(QueueUnavailable):
            producer.enqueue(sale("2"))
        own_server.start()
        assert producer.enqueue(sale("1")).status is ReceiptStatus.DUPLICATE
        assert producer.enqueue(sale("2")).ok


def test_a_store_that_refuses_the_password_is_unavailable_not_a_traceback_of_redis(
    kind: str, own_server: EmbeddedServer
) -> None:
    with redis.Redis(port=own_server.port) as client:
        client.config_set("requirepass", "right")
    with (
        AnyProducer(kind, own_server.url, tenant="acme") as producer,
        pytest.raises(QueueUnavailable) as caught,
    ):
        producer.enqueue(sale("1"))
    assert caught.value.external_id == "1"
