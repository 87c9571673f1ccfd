"""A server that forgot its scripts, and one that is full."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis

from tests.support.duties import Duties
from tests.support.store import LEASE_MS, START_MS, WINDOW_MS, Item, Store
from tests.support.store_check import check_store
from trackdesk_producer import Producer, QueueFull
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_producer.contract.runner import result, run_raw
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.jobs import Reclaimed


@pytest.fixture
def own_store(own_server: EmbeddedServer, keys: Keys) -> Iterator[Store]:
    with redis.Redis(port=own_server.port) as client:
        yield Store(client, keys)


@pytest.fixture
def full(own_store: Store) -> Iterator[Store]:
    """A store with jobs in each state, on a server that then runs full."""
    store = own_store
    store.bury("acme/dead", "acme/dead2")
    store.enqueue(*(Item(f"acme/{n}", "2", "EUR") for n in range(8)), Item("acme/due", due_ms=START_MS + 1))
    client = store.client
    client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("one", "more")
    yield store
    client.config_set("maxmemory", 0)


def test_on_a_full_server_every_duty_of_maintenance_is_done_and_admission_closes(full: Store) -> None:
    duties = Duties(full)
    duties.run_once()

    assert duties.counted("trackdesk_maintenance_total", kind="promoted") == 1
    assert duties.events("maintenance.duty_failed") == []
    assert full.client.zcount(full.keys.workers, "-inf", "+inf") == 1
    assert full.client.get(full.keys.admission) == b"closed"
    full.client.config_set("maxmemory", 0)
    Duties(full).run_once()
    assert not full.client.exists(full.keys.admission)


def test_scripts_that_the_server_forgot_are_loaded_again(own_store: Store) -> None:
    store = own_store
    store.enqueue("acme/1")
    store.client.script_flush()
    job = store.claim_one()
    store.client.script_flush()
    assert store.end(job, Verb.DELIVER)
    store.client.script_flush()
    assert store.enqueue("acme/1") == ["duplicate:delivered"]
    check_store(store)


def test_of_several_calls_in_one_trip_only_the_forgotten_ones_run_again(own_store: Store) -> None:
    store = own_store
    store.enqueue(*(f"acme/{n}" for n in range(4)))
    trips: list[list[Any]] = []

    def send(commands: Sequence[Sequence[Any]]) -> list[Any]:
        trips.append([command[0] for command in commands])
        with store.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute(raise_on_error=False)

    known = store.jobs.claim(1, lease_ms=LEASE_MS, now_ms=START_MS)
    store.claim(1)
    fresh = store.jobs.promote(now_ms=START_MS)
    replies = run_raw(send, [known, fresh, known], [("PING",)])
    assert trips == [["EVALSHA"] * 3 + ["PING"], ["SCRIPT", "EVALSHA", "PING"]]
    assert [len(result(known, replies[0]).jobs), result(fresh, replies[1])] == [1, 0]
    assert replies[3] is True or replies[3] == b"PONG"
    assert len(replies) == 4
    check_store(store)


def test_a_server_restarted_in_between_keeps_every_accepted_job(own_server: EmbeddedServer, keys: Keys) -> None:
    with redis.Redis(port=own_server.port) as client:
        store = Store(client, keys)
        store.enqueue(Item("acme/1", "5", "EUR"))
        store.claim_one()
        own_server.stop()
        own_server.start()
        store.now_ms += LEASE_MS
        assert store.reclaim() == Reclaimed(1, 0)
        check_store(JobStore(client, keys))


def test_on_a_full_server_enqueue_refuses_and_delivery_goes_on(full: Store) -> None:
    before = full.client.hget(full.keys.ledger("acme"), "accepted")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.enqueue("acme/new")
    assert full.client.hget(full.keys.ledger("acme"), "accepted") == before
    delivered, retried, lost = full.claim(3).jobs
    assert full.end(delivered, Verb.DELIVER)
    assert full.end(retried, Verb.RETRY, "server_error", delay_ms=2)
    full.now_ms += LEASE_MS
    assert full.promote() == 2
    assert full.reclaim() == Reclaimed(1, 0)
    assert full.redrive("acme/dead") == ["redriven"]
    assert full.discard("acme/dead2") == ["discarded"]
    assert full.cancel("acme/due") == ["cancelled"]
    assert full.pause("acme")
    assert full.resume("acme")
    assert full.wake()
    full.now_ms += WINDOW_MS
    full.end(full.claim_one(), Verb.DELIVER)
    full.now_ms += WINDOW_MS
    assert full.prune() > 0
    walk = check_store(full)
    assert lost.id in walk.in_state(State.READY)


def test_on_a_full_server_the_producer_says_queue_full_and_nothing_was_stored(
    full: Store, own_server: EmbeddedServer
) -> None:
    sale = {"conversionTypeCode": "sale", "cid": "6f1c", "externalId": "new"}
    with closing(Producer(own_server.url, tenant="acme", namespace=full.keys.namespace)) as producer:
        with pytest.raises(QueueFull, match="nothing was stored"):
            producer.enqueue(sale)
        (receipt,) = producer.enqueue_many([sale])
        assert isinstance(receipt.error, QueueFull)
        assert producer.get("new") is None
        assert producer.cancel("due").status == "cancelled"
        full.client.config_set("maxmemory", 0)
        assert producer.enqueue(sale).status == "accepted"


def test_a_closed_admission_is_queue_full_to_the_producer(own_store: Store, own_server: EmbeddedServer) -> None:
    own_store.client.set(own_store.keys.admission, "1")
    with closing(Producer(own_server.url, tenant="acme", namespace=own_store.keys.namespace)) as producer:
        with pytest.raises(QueueFull, match="nothing was stored"):
            producer.enqueue({"conversionTypeCode": "sale", "cid": "6f1c", "externalId": "new"})
        assert producer.get("new") is None
