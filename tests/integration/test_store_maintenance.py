"""Promote, reclaim, prune and wake: what time does to jobs, and that loops may run side by side."""

import json

import pytest
import redis

from tests.support.reads import group_sizes
from tests.support.store import LEASE_MS, START_MS, UNLIMITED, WINDOW_MS, Item, Store
from tests.support.store_check import HOUR_MS, check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.store.jobs import Reclaimed


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def wakeups(store: Store) -> int:
    return store.client.llen(store.keys.wakeups)


def orphaned_entries(store: Store, tenant: str = "acme") -> int:
    return int(store.client.hget(store.keys.ledger(tenant), "orphaned_entries") or 0)


def test_a_scheduled_job_becomes_ready_when_it_is_due_and_wakes_a_worker(store: Store) -> None:
    store.enqueue(Item("acme/1", "3", "EUR", due_ms=START_MS + 1_000))
    store.now_ms += 999
    assert store.promote() == 0
    assert wakeups(store) == 0
    store.now_ms += 1
    assert store.promote() == 1
    assert wakeups(store) == 1
    assert store.claim_one().job_class is JobClass.LIVE, "a wait that the caller asked for is no retry"
    check_store(store)


def test_promote_moves_the_most_overdue_first_and_no_more_than_asked(store: Store) -> None:
    store.enqueue(*(Item(f"acme/{n}", due_ms=START_MS + 10 - n) for n in range(5)))
    store.now_ms += 10
    for moved in (2, 2, 1, 0):
        assert store.promote(2) == moved
        store.now_ms += 1
    assert [job.id for job in store.claim().jobs] == [f"acme/{n}" for n in (4, 3, 2, 1, 0)]


def test_strays_in_the_schedule_are_dropped_counted_and_break_no_promote(store: Store) -> None:
    store.enqueue(Item("acme/1", due_ms=START_MS + 1), Item("acme/2", due_ms=START_MS + 1), "acme/ready")
    store.client.delete(store.keys.job("acme/1"))
    store.client.zadd(store.keys.scheduled, {"acme/ready": START_MS})
    store.now_ms += 1
    store.promote()
    assert store.record("acme/2").state is State.READY
    assert store.client.zcard(store.keys.scheduled) == 0
    assert orphaned_entries(store) == 2
    assert {job.id for job in store.claim().jobs} == {"acme/2", "acme/ready"}


def test_a_lost_claim_is_taken_back_at_the_end_of_its_lease_and_counts_as_ambiguous(store: Store) -> None:
    store.enqueue(Item("acme/1", "3", "EUR"))
    store.claim_one()
    store.now_ms += LEASE_MS - 1
    assert store.reclaim() == Reclaimed(0, 0)
    store.now_ms += 1
    assert store.reclaim() == Reclaimed(1, 0)
    record = store.record("acme/1")
    assert (record.state, record.ambiguous, record.reason, record.strikes) == (State.READY, True, "lost", 1)
    assert (record.attempts, record.attempts_total, record.job_class) == (1, 1, JobClass.RETRY)
    assert [json.loads(entry) for entry in store.history("acme/1")] == [
        {"kind": "attempt", "at_ms": store.now_ms, "attempt": 1, "outcome": "ambiguous", "reason": "lost"}
    ]
    book = check_store(store).books["acme"]
    assert book.jobs["reclaimed"] == 1
    job = store.claim_one()
    assert (job.attempts, job.ambiguous, job.last_reason) == (2, True, "lost")


def test_a_job_that_keeps_losing_its_sender_is_buried(store: Store) -> None:
    store.enqueue("acme/1")
    for attempt in range(1, 4):
        assert store.claim_one().attempts == attempt
        store.now_ms += LEASE_MS
        assert store.reclaim(policy=Policy(max_attempts=3)) == (Reclaimed(1, 0) if attempt < 3 else Reclaimed(0, 1))
    record = store.record("acme/1")
    assert (record.state, record.reason, record.strikes, record.ambiguous) == (State.DEAD, "lost", 3, True)
    assert len(store.history("acme/1")) == 3
    assert group_sizes(store) == {("acme", "lost"): 1}
    check_store(store)


def test_jobs_lost_together_three_times_come_back_one_by_one(store: Store) -> None:
    ids = [f"acme/{number}" for number in range(4)]
    store.enqueue(*ids)
    for _ in range(3):
        assert len(store.claim().jobs) == 4
        store.now_ms += LEASE_MS
        assert store.reclaim() == Reclaimed(4, 0)
    assert {store.record(identity).state for identity in ids} == {State.SCHEDULED}
    check_store(store)
    alone = []
    for _ in range(4):
        store.now_ms += 1_000
        store.promote()
        alone += [len(store.claim().jobs)]
    assert alone == [1, 1, 1, 1], "the one that kills its sender takes no other along any more"


def test_a_redriven_job_that_is_lost_stays_in_its_class(store: Store) -> None:
    store.bury("acme/1")
    store.redrive("acme/1")
    store.claim_one()
    store.now_ms += LEASE_MS
    store.reclaim()
    assert store.record("acme/1").job_class is JobClass.REDRIVE


def test_reclaim_takes_no_more_than_asked(store: Store) -> None:
    store.enqueue(*(f"acme/{n}" for n in range(5)))
    store.claim()
    store.now_ms += LEASE_MS
    assert [store.reclaim(2).ready for _ in range(4)] == [2, 2, 1, 0]
    check_store(store)


def test_strays_among_the_leases_are_dropped_counted_and_break_no_reclaim(store: Store) -> None:
    store.enqueue("acme/1", "acme/2", "acme/3")
    store.claim()
    store.client.delete(store.keys.job("acme/1"))
    store.client.zadd(store.keys.in_flight, {"acme/never-was": 5})
    store.now_ms += LEASE_MS
    assert store.reclaim() == Reclaimed(2, 0)
    assert store.client.zcard(store.keys.in_flight) == 0
    assert orphaned_entries(store) == 2


def test_a_tombstone_lives_for_its_window_to_the_ms_and_is_pruned_counted(store: Store) -> None:
    store.enqueue(Item("acme/1", "3.10", "EUR"), Item("acme/2", "4", "EUR"), Item("acme/3", "5", "USD"))
    job, other, _ = store.claim().jobs
    store.end(job, Verb.DELIVER)
    store.end(other, Verb.BURY, "server_error")
    store.discard("acme/2")
    store.now_ms += WINDOW_MS - 1  # the start is a full hour, and so is the window: no rounding hides the boundary
    assert store.prune() == 0
    assert store.enqueue("acme/1") == ["duplicate:delivered"]
    store.now_ms += 1
    assert store.prune() == 2
    walk = check_store(store)
    assert walk.in_state(State.IN_FLIGHT) == set(walk.records) == {"acme/3"}
    book = walk.books["acme"]
    assert (book.jobs["pruned_delivered"], book.jobs["pruned_discarded"]) == (1, 1)
    assert (str(book.money["pruned_delivered"]["EUR"]), str(book.money["pruned_discarded"]["EUR"])) == (
        "3.100000000",
        "4",
    )
    assert not list(store.client.scan_iter(match=f"{store.keys.tombstones}*"))


def test_within_an_hour_a_tombstone_is_never_pruned_early(store: Store) -> None:
    store.now_ms += 1
    store.enqueue("acme/1")
    store.cancel("acme/1")
    store.now_ms = START_MS + WINDOW_MS + HOUR_MS - 1
    assert store.prune() == 0
    store.now_ms += 1
    assert store.prune() == 1


def test_prune_takes_no_more_than_asked_over_hours_too(store: Store) -> None:
    for _ in range(3):
        names = [f"acme/{store.now_ms}-{n}" for n in range(3)]
        store.enqueue(*names)
        store.cancel(*names)
        store.now_ms += HOUR_MS
    store.now_ms += 2 * WINDOW_MS
    taken = []
    while n := store.prune(4):
        taken.append(n)
        check_store(store)
    assert taken == [4, 4, 1]


def test_strays_among_the_tombstones_are_counted_and_break_no_prune(store: Store) -> None:
    store.enqueue("acme/1", "acme/2", "acme/3")
    store.cancel("acme/1", "acme/2")
    store.client.delete(store.keys.job("acme/1"))
    store.client.rpush(store.keys.tombstone_bucket(str(START_MS + WINDOW_MS)), "acme/3")
    store.now_ms += WINDOW_MS
    assert store.prune() == 3
    assert orphaned_entries(store) == 2
    assert store.record("acme/3").state is State.READY, "a live job is not pruned, whatever a bucket says"


def test_two_loops_side_by_side_move_each_job_once(store: Store) -> None:
    store.enqueue(*(Item(f"acme/{n}", due_ms=START_MS + 1) for n in range(6)), "acme/lost")
    store.claim()
    store.now_ms += LEASE_MS
    assert [store.promote(), store.promote()] == [6, 0]
    assert [store.reclaim().ready, store.reclaim().ready] == [1, 0]
    check_store(store)


def test_ring_wakes_a_worker_only_if_a_turn_has_come(store: Store) -> None:
    assert not store.wake()
    store.enqueue(Item("acme/1", due_ms=START_MS + 5))
    assert not store.wake()
    store.now_ms += 5
    store.promote()
    store.client.delete(store.keys.wakeups)
    assert store.wake()
    assert wakeups(store) == 1
    store.freeze("acme", 1_000)
    store.claim()
    assert not store.wake(), "a frozen tenant wakes nobody"
    store.now_ms += 1_001
    assert store.wake()
    store.claim()
    assert not store.wake()


def test_however_often_it_rings_four_wake_ups_wait_at_most_and_each_has_its_own_tag(store: Store) -> None:
    for n in range(12):
        store.enqueue(f"acme/{n}")
        store.wake()
    waiting = [json.loads(message) for message in store.client.lrange(store.keys.wakeups, 0, -1)]
    assert len(waiting) == 4
    store.client.delete(store.keys.wakeups)
    for _ in range(9):
        store.wake()
    waiting += [json.loads(message) for message in store.client.lrange(store.keys.wakeups, 0, -1)]
    tags = {message["properties"]["delivery_tag"] for message in waiting}
    assert len(waiting) == len(tags) == 8
    assert {message["headers"]["id"] for message in waiting} == tags


def test_every_wake_up_lost_changes_nothing_but_the_time(store: Store) -> None:
    store.enqueue("acme/1")
    store.client.delete(store.keys.wakeups)
    assert store.wake()
    assert store.claim_one().id == "acme/1"


def test_a_redriven_job_keeps_identity_and_history_and_gets_a_fresh_budget(store: Store) -> None:
    store.enqueue(Item("acme/1", "3", "EUR", fingerprint="abc", body="{}"))
    store.end(store.claim_one(), Verb.RETRY, "timeout", ambiguous=True, strikes=1, entry="first")
    store.promote()
    store.end(store.claim_one(), Verb.BURY, "server_error", strikes=1, entry="second")
    store.now_ms += 5_000
    assert store.redrive("acme/1", "acme/none", note='{"by":"ann"') == ["redriven", "unknown"]
    assert store.redrive("acme/1") == ["refused:ready"]
    record = store.record("acme/1")
    assert (record.job_class, record.attempts, record.attempts_total, record.strikes, record.redrives) == (
        JobClass.REDRIVE,
        0,
        2,
        0,
        1,
    )
    assert (record.epoch_ms, record.accepted_ms, record.fingerprint) == (START_MS + 5_000, START_MS, "abc")
    assert record.ambiguous, "what may have landed before may still have landed"
    assert store.history("acme/1") == ["first", "second", f'{{"by":"ann","at_ms":{START_MS + 5_000}}}']
    assert group_sizes(store) == {}
    assert store.cancel("acme/1") == ["refused:ready"], "it was sent before"
    assert check_store(store).books["acme"].jobs["redriven"] == 1


def test_a_discarded_job_leaves_a_tombstone_with_its_reason(store: Store) -> None:
    store.bury("acme/1", reason="type_not_found")
    assert store.discard("acme/1", "acme/none") == ["discarded", "unknown"]
    assert store.discard("acme/1") == ["refused:discarded"]
    assert store.redrive("acme/1") == ["refused:discarded"]
    record = store.record("acme/1")
    assert (record.state, record.reason, record.body) == (State.DISCARDED, "type_not_found", b"")
    assert group_sizes(store) == {}
    check_store(store)


def test_only_dead_letters_are_redriven_or_discarded(store: Store) -> None:
    store.enqueue("acme/1", "acme/2", Item("acme/3", due_ms=START_MS + 1))
    store.claim(1)
    wanted = ["refused:in_flight", "refused:ready", "refused:scheduled"]
    assert store.redrive("acme/1", "acme/2", "acme/3") == wanted
    assert store.discard("acme/1", "acme/2", "acme/3") == wanted


def test_a_history_is_bounded(store: Store) -> None:
    store.bury("acme/1")
    for n in range(120):
        store.redrive("acme/1", note=f'{{"n":{n}')
        store.end(store.claim_one(), Verb.BURY, "server_error", entry=f"attempt {n}")
    history = store.history("acme/1")
    assert len(history) == 100
    assert history[-1] == "attempt 119"


def test_with_no_explicit_time_the_servers_clock_rules(store: Store) -> None:
    seconds, _ = store.client.time()
    store.now_ms = ""  # type: ignore[assignment]
    store.enqueue("acme/1")
    assert abs(store.record("acme/1").accepted_ms - seconds * 1000) < 10_000


@pytest.mark.parametrize("gone", ["record", "record and index entry", "ledger counts too many"])
def test_places_of_jobs_that_vanished_come_back_when_their_leases_end(store: Store, gone: str) -> None:
    store.enqueue(*(f"acme/{n}" for n in range(6)))
    limits = Limits(rate_per_s=0, cap=3)
    lost = [job.id for job in store.claim(limits=limits).jobs]
    assert len(lost) == 3
    if gone == "ledger counts too many":
        store.client.hincrby(store.keys.ledger("acme"), "in_flight", 100)
    else:
        store.client.delete(*map(store.keys.job, lost))
    if gone == "record and index entry":
        store.client.zrem(store.keys.in_flight, *lost)
    assert store.claim(limits=limits).jobs == []
    store.now_ms += LEASE_MS
    store.reclaim()
    store.now_ms += 1_000
    assert len(store.claim(limits=limits).jobs) == 3


def test_a_lost_job_is_buried_by_its_own_tenants_policy_and_by_its_horizon(store: Store) -> None:
    own = {"strict": (UNLIMITED, Policy(max_attempts=1)), "short": (UNLIMITED, Policy(horizon_s=20))}
    store.run(store.jobs.limits([*own, "other"], own, now_ms=store.now_ms))
    store.enqueue("strict/1", "short/1", "other/1")
    assert len(store.claim().jobs) == 3
    store.now_ms += LEASE_MS
    assert store.reclaim() == Reclaimed(ready=1, buried=2)
    states = {name: store.record(f"{name}/1").state for name in ("strict", "short", "other")}
    assert states == {"strict": State.DEAD, "short": State.DEAD, "other": State.READY}
