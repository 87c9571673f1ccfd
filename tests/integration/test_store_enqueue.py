"""Enqueue and cancel: what is accepted, what is refused, and that a refused batch leaves nothing."""

import pytest
import redis

from tests.support.store import START_MS, WINDOW_MS, Item, Store
from tests.support.store_check import check_store, walk_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import LIVE_BASE, LIVE_FIELDS, JobClass, State
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_worker.domain.claim import Settlement, Verb


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def nothing_is_stored(store: Store) -> bool:
    return not list(store.client.scan_iter(match=f"{store.keys.prefix}*"))


def test_an_accepted_job_is_ready_with_its_record_index_books_and_wake_up(store: Store) -> None:
    assert store.enqueue(Item("acme/1", "100.50", "EUR", fingerprint="abc", body="{}")) == ["accepted:ready"]
    record = store.record("acme/1")
    assert (record.state, record.job_class, record.fingerprint, record.body) == (
        State.READY,
        JobClass.LIVE,
        "abc",
        b"{}",
    )
    assert (record.accepted_ms, record.at, record.attempts, record.redrives) == (START_MS, START_MS * 1000, 0, 0)
    walk = check_store(store)
    assert str(walk.books["acme"].at_risk["EUR"]) == "100.500000000"
    assert store.client.llen(store.keys.wakeups) == 1
    assert walk.turns == {"acme": START_MS * 1000}


def test_the_books_are_exact_from_the_smallest_amount_to_the_largest(store: Store) -> None:
    amounts = ["0.000000001", "999999999999999.999999999", "1000000000", "0.1", "0"]
    store.enqueue(*(Item(f"acme/{n}", amount, "EUR") for n, amount in enumerate(amounts)))
    book = check_store(store).books["acme"]
    assert str(book.money["accepted"]["EUR"]) == "1000001000000000.100000000"


def test_the_same_content_is_a_duplicate_and_other_content_a_conflict(store: Store) -> None:
    assert store.enqueue(Item("acme/1", fingerprint="a")) == ["accepted:ready"]
    before = store.record("acme/1")
    assert store.enqueue(Item("acme/1", fingerprint="a"), Item("acme/1", "5", "EUR", fingerprint="b")) == [
        "duplicate:ready",
        "conflict:ready",
    ]
    assert store.record("acme/1") == before
    book = check_store(store).books["acme"]
    assert (book.jobs["accepted"], book.jobs["duplicates"], book.jobs["conflicts"]) == (1, 1, 1)


def test_a_batch_that_names_a_job_twice_accepts_it_once(store: Store) -> None:
    assert store.enqueue("acme/1", "acme/1") == ["accepted:ready", "duplicate:ready"]
    check_store(store)


def test_a_delivered_job_still_refuses_its_double_and_tells_its_state(store: Store) -> None:
    store.enqueue("acme/1")
    assert store.end(store.claim_one(), Verb.DELIVER)
    assert store.enqueue("acme/1", Item("acme/1", fingerprint="other")) == [
        "duplicate:delivered",
        "conflict:delivered",
    ]


def test_a_job_with_a_time_waits_for_it_and_rings_nobody(store: Store) -> None:
    due = START_MS + 5_000
    assert store.enqueue(Item("acme/1", due_ms=due)) == ["accepted:scheduled"]
    record = store.record("acme/1")
    assert (record.state, record.at, record.epoch_ms) == (State.SCHEDULED, due, due)
    assert store.client.llen(store.keys.wakeups) == 0
    assert store.claim().wait_ms is None
    check_store(store)


def test_a_time_in_the_past_is_now(store: Store) -> None:
    assert store.enqueue(Item("acme/1", due_ms=START_MS)) == ["accepted:ready"]


def test_a_batch_keeps_its_order(store: Store) -> None:
    store.enqueue(*(f"acme/{n:03}" for n in range(50)))
    assert [job.id for job in store.claim(50).jobs] == [f"acme/{n:03}" for n in range(50)]


def test_the_sequence_of_one_number_of_arguments_too_few_stores_nothing(store: Store) -> None:
    whole = [*Item("acme/1").arguments, *Item("acme/2").arguments]
    for wrong in (whole[:-1], [*whole, "more"], whole[:1]):
        with pytest.raises(redis.ResponseError, match="groups of 6"):
            store.enqueue_raw(*wrong)
    assert nothing_is_stored(store)


@pytest.mark.parametrize(
    "bad",
    [
        Item("no-tenant"),
        Item("/1"),
        Item("acme/2", "12,50", "EUR"),
        Item("acme/2", "-1", "EUR"),
        Item("acme/2", "", "EUR"),
        Item("acme/2", "1e9", "EUR"),
    ],
)
def test_one_unsound_item_refuses_the_whole_batch_before_any_write(store: Store, bad: Item) -> None:
    with pytest.raises(redis.ResponseError, match="item 2 has no sound"):
        store.enqueue(Item("acme/1", "1", "EUR"), bad)
    assert nothing_is_stored(store)


def test_an_item_without_a_readable_time_refuses_the_whole_batch(store: Store) -> None:
    with pytest.raises(redis.ResponseError, match="item 2 has no sound"):
        store.enqueue_raw(*Item("acme/1").arguments, "acme/2", "fp", "-", "-", "soon", "{}")
    assert nothing_is_stored(store)


def test_a_closed_admission_refuses_and_stores_nothing(store: Store) -> None:
    store.client.set(store.keys.admission, "1")
    assert store.enqueue("acme/1") == ["full"]
    store.client.delete(store.keys.admission)
    assert nothing_is_stored(store)
    assert store.enqueue("acme/1") == ["accepted:ready"]


def test_a_ready_or_scheduled_job_that_was_never_sent_is_cancelled(store: Store) -> None:
    store.enqueue(Item("acme/1", "7", "EUR"), Item("acme/2", due_ms=START_MS + 1))
    assert store.cancel("acme/1", "acme/2", "acme/3") == ["cancelled", "cancelled", "unknown"]
    assert store.cancel("acme/1") == ["cancelled"], "a repeat answers the same"
    walk = check_store(store)
    assert walk.in_state(State.CANCELLED) == {"acme/1", "acme/2"}
    assert store.claim().jobs == []
    assert store.promote() == 0


def test_a_job_that_was_only_refused_is_cancelled_while_it_waits(store: Store) -> None:
    store.enqueue("acme/1", "acme/2")
    held, later = store.claim(2).jobs
    store.end(held, Verb.RELEASE, "forbidden", spends_attempt=False)
    store.end(later, Verb.RETRY, "connect_error", delay_ms=1000)
    assert store.cancel("acme/1", "acme/2") == ["cancelled", "cancelled"]
    check_store(store)


def test_a_job_that_may_have_landed_or_ended_is_not_cancelled(store: Store) -> None:
    store.enqueue("acme/1", "acme/2", "acme/3")
    jobs = store.claim(3).jobs
    assert store.cancel("acme/1") == ["refused:in_flight"]
    store.end(jobs[0], Verb.DELIVER)
    store.end(jobs[1], Verb.RETRY, "server_error", delay_ms=1000, ambiguous=True)
    store.end(jobs[2], Verb.BURY, "source_not_found")
    assert store.cancel("acme/1", "acme/2", "acme/3") == ["refused:delivered", "refused:scheduled", "refused:dead"]
    check_store(store)


def test_a_claim_given_back_unsent_may_still_be_cancelled(store: Store) -> None:
    store.enqueue("acme/1")
    store.end(store.claim_one(), Verb.RELEASE, "-", entry="", spends_attempt=False)
    assert store.cancel("acme/1") == ["cancelled"]
    check_store(store)


def test_a_pruned_identity_is_free_again(store: Store) -> None:
    store.enqueue("acme/1")
    store.end(store.claim_one(), Verb.DELIVER)
    store.now_ms += WINDOW_MS
    assert store.prune() == 1
    assert store.enqueue("acme/1") == ["accepted:ready"]
    book = check_store(store).books["acme"]
    assert (book.jobs["accepted"], book.jobs["pruned_delivered"], book.jobs["ready"]) == (2, 1, 1)


def test_the_walk_itself_finds_what_was_tampered_with(store: Store) -> None:
    store.enqueue(Item("acme/1", "1", "EUR"), "acme/2")
    store.client.delete(store.keys.job("acme/1"))
    store.client.zincrby(store.keys.ready("acme", "live"), 5, "acme/2")
    store.client.delete(store.keys.turn)
    said = "\n".join(walk_store(store).wrong)
    for part in (
        "holds acme/1 at",
        "holds acme/2 at",
        "acme has ready jobs and no turn",
        "the books of acme hold 2 ready, the records 1",
        "the books of acme hold {'EUR': Decimal('1')} ready, records {}",
    ):
        assert part in said, said


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_job_carries_the_trace_of_its_enqueue_to_every_claim_and_into_no_tombstone(store: Store) -> None:
    store.trace = TRACE
    store.enqueue("acme/1")
    job = store.claim_one()
    assert job.trace == TRACE
    store.settle(Settlement(job.id, job.token, Verb.RETRY, "timeout", 1000, entry="{}"))
    store.now_ms += 2000
    store.promote()
    again = store.claim_one()
    assert again.trace == TRACE
    store.settle(Settlement(again.id, again.token, Verb.DELIVER, "paired", entry="{}"))
    assert TRACE.encode() not in (store.client.get(store.keys.job("acme/1")) or b"")


@pytest.mark.parametrize("bad", ["", "x", "00-a b", TRACE + "0", TRACE.replace("-", " "), "é" * 27 + "x", "\n" * 55])
def test_a_trace_that_is_none_is_dropped_and_the_sale_is_stored(store: Store, bad: str) -> None:
    store.trace = bad
    assert store.enqueue("acme/1") == ["accepted:ready"]
    assert store.claim_one().trace == NO_TRACE


def test_the_trace_is_no_part_of_what_makes_a_sale(store: Store) -> None:
    store.enqueue("acme/1")
    store.trace = TRACE
    assert store.enqueue("acme/1") == ["duplicate:ready"]


def test_words_that_a_newer_release_added_to_a_record_survive_every_rewriting(store: Store) -> None:
    store.enqueue(Item("acme/1", "1.50", "EUR"))
    key = store.keys.job("acme/1")
    head, _, body = (store.client.get(key) or b"").partition(b"\n")
    absent = b" -" * (len(LIVE_FIELDS) - len(head.split(b" ")))
    store.client.set(key, head + absent + b" novel words\n" + body)
    job = store.claim_one()
    store.settle(Settlement(job.id, job.token, Verb.RETRY, "timeout", 1000, entry="{}"))
    store.now_ms += 2000
    store.promote()
    head, _, kept = (store.client.get(key) or b"").partition(b"\n")
    assert head.endswith(b" novel words")
    assert kept == body


def test_a_record_that_an_older_release_wrote_without_the_added_words_goes_on(store: Store) -> None:
    store.enqueue("acme/1")
    key = store.keys.job("acme/1")
    head, _, body = (store.client.get(key) or b"").partition(b"\n")
    store.client.set(key, b" ".join(head.split(b" ")[:LIVE_BASE]) + b"\n" + body)
    job = store.claim_one()
    assert job.trace == NO_TRACE
    assert store.record("acme/1").state is State.IN_FLIGHT
