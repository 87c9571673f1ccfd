"""Replies that no store of ours gives: what answers is something else, and the producer says so."""

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.support.producers import KINDS, AnyProducer, sale
from trackdesk_producer import DurabilityNotMet, ProducerError, QueueUnavailable, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer

PATIENT = {"timeout_s": 5, "connect_timeout_s": 5}  # the machine is busy
Answer = Callable[[bytes], bytes]
SHAPES = [
    *(b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$3\r\nfoo\r\n", b"*0\r\n", b"*-1\r\n"),
    *(b"*1\r\n:5\r\n", b"*1\r\n$5\r\nhello\r\n", b"*1\r\n$14\r\naccepted:lying\r\n"),
    *(b"*1\r\n$2\r\n\xff\xfe\r\n", b"*1\r\n*0\r\n", b"*2\r\n$14\r\naccepted:ready\r\n$14\r\naccepted:ready\r\n"),
]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Serve the Redis protocol: every command gets the bytes that `answer` returns for its name."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while line := self.rfile.readline():
                    words = []
                    for _ in range(int(line[1:])):
                        words.append(self.rfile.read(int(self.rfile.readline()[1:])))
                        self.rfile.read(2)
                    self.wfile.write(answer(words[0].upper()))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_a_reply_of_the_wrong_shape_is_reported_as_such(kind: str, shape: bytes) -> None:
    def answer(command: bytes) -> bytes:
        return b"+OK\r\n" if command in (b"CLIENT", b"SELECT", b"HELLO") else shape

    with answering(answer) as url, AnyProducer(kind, url, tenant="acme", **PATIENT) as producer:
        with pytest.raises(QueueUnavailable, match="is not a reply of this store") as caught:
            producer.enqueue(sale("order-1"))
        assert caught.value.external_id == "order-1"
        assert "TRACKDESK_REDIS_URL" not in str(caught.value), "the library does not know where its URL came from"
        receipts = producer.enqueue_many([sale("order-1"), sale("order-2"), sale("order-3")])
        assert {receipt.status for receipt in receipts} == {ReceiptStatus.REFUSED}
        assert all(isinstance(receipt.error, QueueUnavailable) for receipt in receipts)
        with pytest.raises(QueueUnavailable, match="is not a reply of this store"):
            producer.cancel("order-1")
        if b"-1" not in shape:  # no record: the job is unknown
            with pytest.raises(QueueUnavailable, match="cannot be read"):
                producer.get("order-1")


@pytest.mark.parametrize("durability", ["fsync", "replicated"])
@pytest.mark.parametrize("shape", [b"+OK\r\n", b"$-1\r\n", b"*0\r\n", b"*1\r\n$1\r\nx\r\n"])
def test_a_confirmation_of_the_wrong_shape_confirms_nothing(kind: str, durability: str, shape: bytes) -> None:
    answers = {b"EVALSHA": b"*1\r\n$14\r\naccepted:ready\r\n", b"WAIT": shape, b"WAITAOF": shape}
    with (
        answering(lambda command: answers.get(command, b"+OK\r\n")) as url,
        AnyProducer(kind, url, tenant="acme", durability=durability, **PATIENT) as producer,
        pytest.raises(DurabilityNotMet, match="not a confirmation"),
    ):
        producer.enqueue(sale("order-1"))


@pytest.mark.parametrize("record", [b"what is this", b"\xff\xfe\n{}", b"J5"])
def test_a_record_that_something_else_altered_is_reported_as_unreadable(
    kind: str, valkey: EmbeddedServer, keys: Keys, record: bytes
) -> None:
    with (
        redis.Redis(port=valkey.port) as client,
        AnyProducer(kind, valkey.url, tenant="acme", namespace=keys.namespace) as one,
    ):
        client.set(keys.job("acme/order-1"), record)
        with pytest.raises(ProducerError, match="cannot be read"):
            one.get("order-1")
