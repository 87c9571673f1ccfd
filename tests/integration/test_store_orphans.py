"""Index entries that lost their job: by an eviction, a hand, or a release that did not know the index."""

import pytest
import redis

from tests.support.store import LEASE_MS, START_MS, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.domain.outcome import Reason
from trackdesk_worker.store.ledger import read_books

ONE_AT_A_TIME = Limits(rate_per_s=0, cap=1)
LONG_AGO, LONG_AHEAD = START_MS - 1, START_MS + 100 * LEASE_MS


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def places(store: Store, tenant: str = "acme") -> str:
    return f"{store.keys.prefix}places:{tenant}"


def orphaned_entries(store: Store) -> int:
    return sum(book.jobs["orphaned_entries"] for book in read_books(store).values())


def maintain(store: Store) -> None:
    store.promote()
    store.reclaim()


def test_a_job_that_vanished_in_flight_gives_its_place_back_with_its_lease_and_counts_once(store: Store) -> None:
    store.enqueue("acme/1", "acme/2")
    (gone,) = store.claim(limits=ONE_AT_A_TIME).jobs
    store.client.delete(store.keys.job(gone.id))
    assert not store.end(gone, Verb.DELIVER)
    assert store.claim(limits=ONE_AT_A_TIME).jobs == [], "its request may be under way"
    store.now_ms += LEASE_MS
    maintain(store)
    maintain(store)
    assert [job.id for job in store.claim(limits=ONE_AT_A_TIME).jobs] == ["acme/2"]
    assert store.client.zrange(places(store), 0, -1) == [b"acme/2"]
    assert orphaned_entries(store) == 1


@pytest.mark.parametrize("end_ms", [LONG_AGO, LONG_AHEAD])
def test_a_place_of_no_job_in_flight_is_cleared_and_counts_if_there_is_no_record(store: Store, end_ms: int) -> None:
    store.enqueue("acme/1")
    store.client.zadd(places(store), {"acme/ghost": end_ms, "acme/1": end_ms})
    maintain(store)
    assert orphaned_entries(store) == 1
    check_store(store)
    assert len(store.claim(limits=ONE_AT_A_TIME).jobs) == 1


def test_a_retry_that_waits_no_more_is_cleared_and_counts_if_there_is_no_record(store: Store) -> None:
    store.enqueue("acme/1", "acme/2")
    store.end(store.claim_one(), Verb.RETRY, Reason.SERVER_ERROR, delay_ms=60_000)
    store.client.zadd(store.keys.retries, {"acme/ghost": LONG_AGO, "acme/2": LONG_AGO})
    maintain(store)
    assert orphaned_entries(store) == 1
    assert store.client.zrange(store.keys.retries, 0, -1) == [b"acme/1"]
    check_store(store)


def test_a_scheduled_job_that_vanished_leaves_no_entry_and_counts_once(store: Store) -> None:
    store.enqueue("acme/1")
    store.end(store.claim_one(), Verb.RETRY, Reason.SERVER_ERROR, delay_ms=1_000)
    store.client.delete(store.keys.job("acme/1"))
    store.now_ms -= 1
    maintain(store)
    store.now_ms += 1_001
    maintain(store)
    assert orphaned_entries(store) == 1
    assert store.client.exists(store.keys.scheduled, store.keys.retries) == 0


def test_the_places_bring_an_index_of_leases_back_that_was_lost(store: Store) -> None:
    store.enqueue("acme/1")
    store.claim_one()
    store.client.delete(store.keys.in_flight)
    store.now_ms += LEASE_MS
    maintain(store)
    assert store.record("acme/1").state is State.READY
    assert orphaned_entries(store) == 0
    check_store(store)
