"""What each durability level promises, and that a store which cannot keep it is reported as such."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import server_binary
from tests.support.frozen import resume, suspend
from tests.support.producers import KINDS, AnyProducer, sale
from tests.support.waiting import wait_until
from trackdesk_producer import Durability, DurabilityNotMet, QueueUnavailable, ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def replica(own_server: EmbeddedServer, tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A second server that follows `own_server`."""
    follower = EmbeddedServer(tmp_path / "replica", binary=server_binary("valkey"))
    follower.start()
    with redis.Redis(port=own_server.port) as first, redis.Redis(port=follower.port) as second:
        first.config_set("repl-diskless-sync-delay", 0)
        second.execute_command("REPLICAOF", "127.0.0.1", own_server.port)
        wait_until(
            lambda: first.set("write", "1") and first.execute_command("WAIT", 1, 50) == 1,
            "the replica confirms a write",
        )
    yield follower
    resume(follower)
    follower.stop()


def knows_waitaof(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ResponseError):
        client.execute_command("WAITAOF", 0, 0, 1)
        return True
    return False


def test_fsync_is_confirmed_by_the_disk_or_refused_with_the_reason(
    kind: str, server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    options = {"tenant": "acme", "namespace": keys.namespace, "durability": "fsync"}
    with AnyProducer(kind, server.url, **options) as producer:
        if knows_waitaof(client):
            assert producer.enqueue(sale("1")).status is ReceiptStatus.ACCEPTED
            assert [r.status for r in producer.enqueue_many([sale("1"), sale("2")])] == ["duplicate", "accepted"]
            return
        with pytest.raises(DurabilityNotMet) as caught:
            producer.enqueue(sale("1"))
        assert str(caught.value) == (
            "stored, but the store cannot promise durability 'fsync': it needs Redis 7.2 or newer, or Valkey; "
            "repeating the call with the same externalId is safe"
        )
        assert caught.value.external_id == "1"
        assert isinstance(caught.value, QueueUnavailable), "who handles one handles the other"
        (receipt,) = producer.enqueue_many([sale("1")])
        assert isinstance(receipt.error, DurabilityNotMet)
        assert producer.enqueue(sale("1"), durability=Durability.MEMORY).status is ReceiptStatus.DUPLICATE


def test_fsync_without_an_append_only_file_is_not_met(kind: str, own_server: EmbeddedServer, keys: Keys) -> None:
    with redis.Redis(port=own_server.port) as client:
        client.config_set("appendonly", "no")
    with AnyProducer(kind, own_server.url, tenant="acme", namespace=keys.namespace) as producer:
        with pytest.raises(DurabilityNotMet, match=r"append-only file is off \(appendonly no\)"):
            producer.enqueue(sale("1"), durability="fsync")
        assert producer.get("1") is not None, "stored all the same"


def test_a_level_given_in_the_call_goes_before_the_producers(kind: str, own_server: EmbeddedServer, keys: Keys) -> None:
    options = {"tenant": "acme", "namespace": keys.namespace, "durability": "replicated"}
    with AnyProducer(kind, own_server.url, **options) as producer:
        assert producer.enqueue(sale("1"), durability="memory").ok


def test_replicated_without_a_replica_is_not_met_within_the_deadline(
    kind: str, own_server: EmbeddedServer, keys: Keys
) -> None:
    options = {"tenant": "acme", "namespace": keys.namespace, "durability": "replicated"}
    with AnyProducer(kind, own_server.url, **options) as producer:
        producer.enqueue(sale("0"), durability="memory")  # the store knows the script from here on
        with pytest.raises(DurabilityNotMet, match="only 0 of 1 replicas confirmed"):
            producer.enqueue(sale("1"))
        (receipt,) = producer.enqueue_many([sale("2")])
        assert isinstance(receipt.error, DurabilityNotMet)
        assert producer.enqueue(sale("1"), durability="memory").status is ReceiptStatus.DUPLICATE


def test_replicated_means_that_the_replica_has_it(
    kind: str, own_server: EmbeddedServer, replica: EmbeddedServer, keys: Keys
) -> None:
    options = {"tenant": "acme", "namespace": keys.namespace, "durability": "replicated"}
    with AnyProducer(kind, own_server.url, **options) as producer, redis.Redis(port=replica.port) as second:
        for n in range(5):
            assert producer.enqueue(sale(f"{n}")).status is ReceiptStatus.ACCEPTED
            assert second.exists(keys.job(f"acme/{n}")) == 1
        suspend(replica)
        with pytest.raises(DurabilityNotMet, match="only 0 of 1"):
            producer.enqueue(sale("late"))
        resume(replica)
        assert producer.enqueue(sale("late")).status is ReceiptStatus.DUPLICATE


def test_more_replicas_than_there_are_is_not_met(
    kind: str, own_server: EmbeddedServer, replica: EmbeddedServer, keys: Keys
) -> None:
    options = {"tenant": "acme", "namespace": keys.namespace, "durability": "replicated"}
    with AnyProducer(kind, own_server.url, replicas=2, **options) as producer:
        producer.enqueue(sale("0"), durability="memory")
        with pytest.raises(DurabilityNotMet, match="only 1 of 2 replicas"):
            producer.enqueue(sale("1"))


def test_durability_holds_for_the_first_call_after_the_store_forgot_its_scripts(
    kind: str, own_server: EmbeddedServer, keys: Keys
) -> None:
    options = {"tenant": "acme", "namespace": keys.namespace, "durability": "fsync"}
    with AnyProducer(kind, own_server.url, **options) as producer, redis.Redis(port=own_server.port) as client:
        producer.enqueue(sale("1"))
        client.script_flush()
        client.config_resetstat()
        assert producer.enqueue(sale("2")).status is ReceiptStatus.ACCEPTED
        assert client.info("commandstats")["cmdstat_waitaof"]["calls"] == 2, "behind the call that stored, too"
