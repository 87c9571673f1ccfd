"""After a restore the store may have forgotten deliveries: what was accepted before counts as perhaps sent."""

import pytest
import redis

from tests.support.store import Item, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Settlement, Verb


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def test_what_was_accepted_before_is_in_doubt_and_what_comes_after_is_not(store: Store) -> None:
    store.enqueue(Item("acme/ready"), Item("acme/later", due_ms=store.now_ms + 5_000), Item("other/ready"))
    assert store.restored() == 2
    store.now_ms += 6_000
    store.promote()
    store.enqueue("acme/new")
    assert {job.id: job.ambiguous for job in store.claim().jobs} == {
        "acme/ready": True,
        "acme/later": True,
        "other/ready": True,
        "acme/new": False,
    }
    assert store.record("acme/later").ambiguous, "the doubt is on record for every later attempt"


def test_it_may_be_said_of_one_tenant_alone(store: Store) -> None:
    store.enqueue("acme/1", "other/1")
    assert store.restored("acme") == 1
    assert {job.id: job.ambiguous for job in store.claim().jobs} == {"acme/1": True, "other/1": False}


def test_a_dead_letter_of_before_is_in_doubt_when_it_is_redriven(store: Store) -> None:
    store.enqueue("acme/1")
    job = store.claim_one()
    store.settle(Settlement(job.id, job.token, Verb.BURY, "unverified_duplicate", entry="{}"))
    store.restored()
    store.redrive("acme/1")
    assert store.claim_one().ambiguous


def test_a_sale_that_may_have_been_sent_can_no_longer_be_cancelled_as_unsent(store: Store) -> None:
    store.enqueue("acme/1")
    store.restored()
    assert store.cancel("acme/1") == ["refused:ready"]
    store.now_ms += 1
    store.enqueue("acme/2")
    assert store.cancel("acme/2") == ["cancelled"]


def test_a_worker_that_outlived_the_store_settles_nothing_with_a_token_of_before(store: Store) -> None:
    """The restored store would count its tokens from the backup's on, and give the very same ones again."""
    store.enqueue("acme/1")
    snapshot = {key: store.client.dump(key) for key in store.client.scan_iter(match=f"{store.keys.prefix}*")}
    before = store.claim_one()
    for key in store.client.scan_iter(match=f"{store.keys.prefix}*"):
        store.client.delete(key)
    for key, value in snapshot.items():
        store.client.restore(key, 0, value)
    store.restored()
    again = store.claim_one()
    assert store.settle(Settlement(before.id, before.token, Verb.DELIVER, "paired", entry="{}")) == [False]
    assert store.settle(Settlement(again.id, again.token, Verb.DELIVER, "paired", entry="{}")) == [True]
    assert check_store(store).in_state(State.DELIVERED) == {"acme/1"}
