"""One record that something else altered costs that one sale, and no other: not in its batch, not in later ones."""

from collections.abc import Callable

import pytest
import redis

from tests.support.store import LEASE_MS, START_MS, WINDOW_MS, Item, Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.store import plans

BAD = "acme/2"
IDS = tuple(f"acme/{number}" for number in range(5))
OTHERS = {identity for identity in IDS if identity != BAD}


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def another_type(store: Store) -> None:
    store.client.delete(store.keys.job(BAD))
    store.client.hset(store.keys.job(BAD), "a", "b")


def no_record(store: Store) -> None:
    store.client.set(store.keys.job(BAD), b"\x00\xff is no record")


def a_word_that_is_no_number(store: Store) -> None:
    words = store.client.get(store.keys.job(BAD)).split(b" ")
    words[8] = b"x"
    store.client.set(store.keys.job(BAD), b" ".join(words))


def an_amount_that_is_none(store: Store) -> None:
    words = store.client.get(store.keys.job(BAD)).split(b" ")
    words[4] = b"1..2"
    store.client.set(store.keys.job(BAD), b" ".join(words))


altered = pytest.mark.parametrize(
    "alter", [another_type, no_record, a_word_that_is_no_number, an_amount_that_is_none], ids=lambda f: f.__name__
)


def claimed(store: Store) -> set[str]:
    return {job.id for job in store.claim().jobs}


@altered
def test_a_claim_hands_out_the_others(store: Store, alter: Callable[[Store], None]) -> None:
    store.enqueue(*IDS)
    alter(store)
    assert claimed(store) == OTHERS


@altered
def test_an_enqueue_stores_the_others_and_refuses_that_one_loudly(store: Store, alter: Callable[[Store], None]) -> None:
    store.enqueue(BAD)
    store.claim_one()
    alter(store)
    assert store.enqueue(*IDS) == ["conflict:" if identity == BAD else "accepted:ready" for identity in IDS]
    assert claimed(store) == OTHERS


@altered
def test_a_settlement_keeps_the_others(store: Store, alter: Callable[[Store], None]) -> None:
    store.enqueue(*IDS)
    jobs = store.claim().jobs
    alter(store)
    kept = store.settle(*(Settlement(job.id, job.token, Verb.DELIVER, "paired", entry="{}") for job in jobs))
    assert {job.id for job, ok in zip(jobs, kept, strict=True) if ok} == OTHERS


@altered
def test_reclaim_takes_the_others_back(store: Store, alter: Callable[[Store], None]) -> None:
    store.enqueue(*IDS)
    store.claim()
    alter(store)
    store.now_ms += LEASE_MS + 1
    store.reclaim()
    assert claimed(store) == OTHERS


@altered
def test_promote_moves_the_others(store: Store, alter: Callable[[Store], None]) -> None:
    store.enqueue(*(Item(identity, due_ms=START_MS + 10) for identity in IDS))
    alter(store)
    store.now_ms += 20
    store.promote()
    assert claimed(store) == OTHERS


@altered
def test_a_redrive_moves_the_others(store: Store, alter: Callable[[Store], None]) -> None:
    store.bury(*IDS)
    alter(store)
    store.redrive(*IDS)
    assert claimed(store) == OTHERS


@altered
def test_a_plan_decides_the_others_of_its_list(store: Store, alter: Callable[[Store], None]) -> None:
    now_ms = store.now_ms
    store.bury(*IDS)
    fields = {"act": "redrive", "window_ms": "0", "limit": ""}
    plans.create(store, "plan-1", fields, IDS, entry="{}", now_ms=now_ms)
    plans.drive(store, rate_us=0, now_ms=now_ms)
    plans.transition(store, "plan-1", "start", entry="{}", note='{"kind":"redrive"', now_ms=now_ms)
    alter(store)
    assert plans.drive(store, rate_us=0, now_ms=now_ms).problems == {}
    assert claimed(store) == OTHERS
    (found,) = plans.read_fields(store, ["plan-1"])
    assert found is not None
    plan, sums = found
    assert plan.state == "finished"
    assert plans.verdicts_of(sums) == {"redriven": len(OTHERS), "skipped:unreadable": 1}


@altered
def test_a_cancellation_ends_the_others(store: Store, alter: Callable[[Store], None]) -> None:
    store.enqueue(*IDS)
    alter(store)
    assert store.cancel(*IDS).count("cancelled") == len(OTHERS)


def test_prune_removes_the_others(store: Store) -> None:
    store.enqueue(*IDS)
    for job in store.claim().jobs:
        store.end(job, Verb.DELIVER)
    store.client.set(store.keys.job(BAD), "t1 pfp 1..2EUR692a1c0005")
    store.now_ms += 3 * WINDOW_MS
    store.prune()
    assert not store.client.exists(*map(store.keys.job, OTHERS))


def test_a_history_of_another_type_keeps_no_job_from_being_settled(store: Store) -> None:
    store.enqueue(*IDS)
    jobs = store.claim().jobs
    store.client.set(store.keys.history(BAD), "x")
    assert all(store.settle(*(Settlement(job.id, job.token, Verb.BURY, "lost", entry="{}") for job in jobs)))
    assert store.record(BAD).state is State.DEAD


def test_wake_ups_of_another_type_keep_no_sale_from_being_stored_and_sent(store: Store) -> None:
    store.client.set(store.keys.wakeups, "x")
    assert store.enqueue("acme/1") == ["accepted:ready"]
    assert claimed(store) == {"acme/1"}


def test_an_enqueue_that_breaks_off_leaves_no_sale_without_its_place(store: Store) -> None:
    store.client.set(store.keys.tenants, "x")
    with pytest.raises(redis.ResponseError):
        store.enqueue_raw(*Item("acme/1").arguments)
    store.client.delete(store.keys.tenants)
    assert store.enqueue("acme/1", "acme/2") == ["duplicate:ready", "accepted:ready"]
    assert claimed(store) == {"acme/1", "acme/2"}


@pytest.mark.parametrize(("word", "odd"), [(2, b"odd"), (17, b"what?")], ids=["class", "doubt"])
def test_a_claim_that_cannot_be_read_keeps_no_other_from_being_sent(store: Store, word: int, odd: bytes) -> None:
    store.enqueue(*IDS)
    head, body = store.client.get(store.keys.job(BAD)).split(b"\n", 1)
    words = [*head.split(b" ")[:17], b"-", b"-"]
    words[11], words[word] = b"1", odd
    store.client.set(store.keys.job(BAD), b" ".join(words) + b"\n" + body)
    claims = store.claim()
    assert {job.id for job in claims.jobs} == OTHERS
    assert claims.unreadable == (BAD,)
