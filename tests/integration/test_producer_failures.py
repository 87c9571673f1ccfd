"""A store that cannot be used says why at once, in words that say what to do; only silence is called "no answer"."""

import asyncio
import socket
from pathlib import Path

import pytest
import redis

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
from trackdesk_producer import AsyncProducer, ProducerError, QueueUnavailable, Receipt, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer

DEADLINE_S = 60
AT_ONCE_S = 20
"""Far less than the deadline, and enough for a busy machine."""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def what_is_said(kind: str, url: str) -> str:
    patient = {"timeout_s": DEADLINE_S, "connect_timeout_s": DEADLINE_S}
    with AnyProducer(kind, url, tenant="acme", namespace="none", **patient) as producer:
        with within(AT_ONCE_S), pytest.raises(QueueUnavailable) as caught:
            producer.enqueue(sale("order-1"))
        (receipt,) = producer.enqueue_many([sale("order-1")])
        assert isinstance(receipt.error, QueueUnavailable)
        return caught.value.what


def test_a_refused_connection_names_the_address(kind: str) -> None:
    url = closed_port()
    port = url.rpartition(":")[2].partition("/")[0]
    said = f"no store accepts connections at 127.0.0.1:{port}: start it, or correct the host and port in the URL"
    assert what_is_said(kind, url) == said
    assert what_is_said(kind, url.replace("127.0.0.1", "localhost")) == said.replace("127.0.0.1", "localhost")


def test_an_unknown_host_is_called_unknown(kind: str) -> None:
    assert what_is_said(kind, "redis://no-such-host.invalid:6379/0") == (
        "the host name of the store is unknown (no-such-host.invalid:6379): correct it in the URL, or check this "
        "machine's DNS"
    )


def test_a_socket_that_does_not_exist_is_named(kind: str, tmp_path: Path) -> None:
    assert what_is_said(kind, f"unix://{tmp_path}/none.sock") == (
        f"the store has no socket at {tmp_path}/none.sock: start it, or correct the path in the URL"
    )


def test_a_sale_is_enqueued_over_a_unix_socket(kind: str, tmp_path: Path, keys: Keys) -> None:
    server = EmbeddedServer(tmp_path / "data", config={"unixsocket": str(tmp_path / "s")})
    server.start()
    try:
        with AnyProducer(kind, f"unix://{tmp_path}/s?db=2", tenant="acme", namespace=keys.namespace) as producer:
            assert producer.enqueue(sale("order-1")).status is ReceiptStatus.ACCEPTED
    finally:
        server.kill()


def test_wrong_logins_are_called_so(kind: str, own_server: EmbeddedServer) -> None:
    where = f"127.0.0.1:{own_server.port}"
    refused = (
        "the store refused the login: correct the user and password in the URL, with reserved characters "
        "percent-encoded"
    )
    missing = "the store wants a login: write the URL as redis://user:password@host:port/0"
    assert what_is_said(kind, f"redis://:s3cret@{where}/0") == (
        "the store has no password, but the URL names one: leave it out, or name its user as well"
    )
    with redis.Redis(port=own_server.port) as client:
        client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+get"])
        client.config_set("requirepass", "right")
    assert what_is_said(kind, f"redis://:s3cret@{where}/0") == refused
    assert what_is_said(kind, f"redis://ann:s3cret@{where}/3") == refused
    assert what_is_said(kind, f"redis://{where}/0") == missing
    with AnyProducer(kind, f"redis://{where}/0", tenant="acme") as producer:
        with pytest.raises(QueueUnavailable) as caught:
            producer.get("order-1")
        assert caught.value.what == missing
    assert what_is_said(kind, f"redis://reader:pw@{where}/0").startswith(
        "the store does not permit its user what a producer needs: "
    )


def test_a_database_that_does_not_exist_is_called_so(kind: str, server: EmbeddedServer) -> None:
    assert what_is_said(kind, f"redis://127.0.0.1:{server.port}/99") == (
        "the store has no database of the URL's number: correct it, such as /0"
    )


def test_another_kind_of_server_is_called_so(kind: str) -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        said = what_is_said(kind, f"redis://127.0.0.1:{port}/0")
    assert said == "what answers at the URL's address is no Redis: correct the host and port in the URL"
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        said = what_is_said(kind, f"rediss://127.0.0.1:{port}/0")
    assert said.startswith(f"127.0.0.1:{port} speaks no TLS, or another version (")
    with answering(b"") as port:
        said = what_is_said(kind, f"redis://127.0.0.1:{port}/0")
    assert said == "the store closed the connection; if it does so each time, it may want TLS: write rediss://"


def test_sentinels_that_cannot_be_asked_are_called_so(kind: str) -> None:
    where = closed_port().removeprefix("redis://").partition("/")[0]
    assert what_is_said(kind, f"sentinel://{where}/main") == (
        "no Sentinel could be asked for the master 'main': check that they run, and their addresses in the URL"
    )


def test_a_store_without_room_for_connections_is_called_so(kind: str, own_server: EmbeddedServer) -> None:
    with redis.Redis(port=own_server.port) as client:
        client.config_set("maxclients", 1)
        said = what_is_said(kind, own_server.url)
        assert said.startswith(("the store takes no more connections: ", "the store refused a new connection: "))
        assert "maxclients" in said


def test_only_silence_is_called_no_answer(kind: str) -> None:
    short = {"tenant": "acme", "timeout_s": 0.3}
    with silent_listener() as url, AnyProducer(kind, url, **short) as producer:
        with pytest.raises(QueueUnavailable) as caught:
            producer.enqueue(sale("order-1"))
        assert caught.value.what == "the store gave no answer within 0.3 s"
    # The deadline of the call passes before the limit for connecting does.
    with unreachable_listener() as url, AnyProducer(kind, url, connect_timeout_s=5, **short) as producer:
        with pytest.raises(QueueUnavailable) as caught:
            producer.enqueue(sale("order-1"))
        assert caught.value.what == "the store could not be reached in time: it did not accept the connection"
    with silent_listener() as url:
        secure = url.replace("redis://", "rediss://")
        with (
            AnyProducer(kind, secure, connect_timeout_s=5, **short) as producer,
            pytest.raises(QueueUnavailable) as caught,
        ):
            producer.enqueue(sale("order-1"))
        assert caught.value.what.startswith("the store could not be reached in time: it did not complete the TLS")


def test_no_failure_repeats_a_password(kind: str) -> None:
    with AnyProducer(kind, closed_port().replace("//", "//ann:s3cret@"), tenant="acme") as producer:
        with pytest.raises(QueueUnavailable) as caught:
            producer.enqueue(sale("order-1"))
        link: BaseException | None = caught.value
        while link is not None:
            assert "s3cret" not in f"{link} {link!r}"
            link = link.__cause__ or link.__context__


def test_an_error_that_the_caller_handles_meanwhile_is_not_taken_for_the_stores(kind: str) -> None:
    with AnyProducer(kind, closed_port(), tenant="acme", timeout_s=DEADLINE_S) as producer:
        try:
            socket.getaddrinfo("no-such-host.invalid", 80)
        except OSError:
            with pytest.raises(QueueUnavailable, match="no store accepts connections"):
                producer.enqueue(sale("order-1"))


def test_a_receipt_is_true_exactly_if_it_is_ok(kind: str, server: EmbeddedServer, keys: Keys) -> None:
    with AnyProducer(kind, server.url, tenant="acme", namespace=keys.namespace, timeout_s=10) as producer:

        def stored(receipt: Receipt) -> bool:
            assert bool(receipt) is receipt.ok
            return bool(receipt)

        assert stored(producer.enqueue(sale("order-1")))
        assert stored(producer.enqueue(sale("order-1"))), "a duplicate"
        assert not stored(producer.enqueue(sale("order-1", amount={"value": "7"}))), "a conflict"
        (refused,) = producer.enqueue_many([sale("order-2", cid=None)])
        assert not stored(refused)
        assert producer.cancel("order-1")
        assert not producer.cancel("never-sold")
        assert not stored(producer.enqueue(sale("order-1"))), "given up"


def test_a_cancelled_task_stays_cancelled() -> None:
    async def main(url: str) -> None:
        async with AsyncProducer(url, tenant="acme", connect_timeout_s=5, timeout_s=5) as producer:
            task = asyncio.create_task(producer.enqueue(sale("order-1")))
            await asyncio.wait({task}, timeout=0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with unreachable_listener() as url:
        asyncio.run(main(url))


def test_what_the_caller_does_wrong_is_an_error_of_the_library(kind: str) -> None:
    with AnyProducer(kind, "redis://127.0.0.1:1/0", tenant="acme") as producer:
        for call in (
            lambda: producer.enqueue(sale("order-1"), durability="fast"),
            lambda: producer.enqueue_many([sale("order-1")], durability=5),
            lambda: producer.enqueue_many(None),
            lambda: producer.enqueue_many(sale("order-1")),
            lambda: producer.enqueue(None),
            lambda: producer.enqueue(sale("order-1"), tenant=5),
            lambda: producer.get(None),
            lambda: producer.get("\ud800"),
            lambda: producer.cancel(5),
            lambda: producer.cancel("order-1", tenant="A b"),
        ):
            with pytest.raises(ProducerError) as caught:
                call()
            assert not isinstance(caught.value, QueueUnavailable)
