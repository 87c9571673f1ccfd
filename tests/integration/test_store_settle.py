"""Settle: only the holder may, each verb does what it says, and an unsound batch changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.support.reads import group_sizes
from tests.support.store import LEASE_MS, START_MS, WINDOW_MS, Item, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_producer.contract.scripts import ScriptCall
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.domain.limits import Breaker
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind
from trackdesk_worker.store.jobs import script


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def test_a_delivered_job_shrinks_to_a_tombstone_that_is_filed_for_pruning(store: Store) -> None:
    store.enqueue(Item("acme/1", "10", "EUR"))
    job = store.claim_one()
    store.end(job, Verb.RETRY, "timeout", ambiguous=True)
    store.promote()
    store.now_ms += 5_007
    assert store.end(store.claim_one(), Verb.DELIVER, "confirmed_duplicate")
    record = store.record("acme/1")
    assert (record.state, record.reason, record.body, record.at, record.attempts_total) == (
        State.DELIVERED,
        "confirmed_duplicate",
        b"",
        START_MS + 5_000,
        2,
    )
    assert store.history("acme/1") == []
    book = check_store(store).books["acme"]
    assert book.jobs["delivered_confirmed_duplicate"] == 1
    assert book.at_risk == {}


def test_a_retry_waits_for_its_time_in_the_class_of_retries(store: Store) -> None:
    store.enqueue(Item("acme/1", "10", "EUR"))
    entry = '{"kind":"attempt","attempt":1}'
    due = START_MS + 2_000
    assert store.end(store.claim_one(), Verb.RETRY, "server_error", delay_ms=2_000, strikes=1, entry=entry)
    record = store.record("acme/1")
    assert (record.state, record.at, record.attempts, record.reason) == (State.SCHEDULED, due, 1, "server_error")
    assert (record.strikes, record.ambiguous, record.token, record.job_class) == (1, False, 0, JobClass.RETRY)
    assert store.history("acme/1") == [entry]
    store.now_ms = due
    store.promote()
    job = store.claim_one()
    assert (job.attempts, job.strikes, job.last_reason, job.epoch_ms) == (2, 1, "server_error", START_MS)
    check_store(store)


def test_once_ambiguous_a_job_stays_ambiguous(store: Store) -> None:
    store.enqueue("acme/1")
    store.end(store.claim_one(), Verb.RETRY, "timeout", ambiguous=True)
    store.promote()
    job = store.claim_one()
    assert job.ambiguous
    store.end(job, Verb.BURY, "server_error", ambiguous=False)
    assert store.record("acme/1").ambiguous


def test_a_buried_job_is_a_dead_letter_by_tenant_and_reason(store: Store) -> None:
    store.bury("acme/1", "acme/2", reason="type_not_found")
    store.bury("other/1", reason="type_not_found")
    walk = check_store(store)
    assert walk.in_state(State.DEAD) == {"acme/1", "acme/2", "other/1"}
    assert group_sizes(store) == {("acme", "type_not_found"): 2, ("other", "type_not_found"): 1}
    assert store.record("acme/1").body, "a dead letter keeps what it would send"


def test_a_released_claim_goes_back_in_front_and_costs_nothing(store: Store) -> None:
    store.enqueue("acme/1")
    store.now_ms += 1
    store.enqueue("acme/2")
    job = store.claim_one()
    assert store.end(job, Verb.RELEASE, "-", entry="", spends_attempt=False)
    record = store.record("acme/1")
    assert (record.state, record.attempts, record.attempts_total, record.reason) == (State.READY, 0, 0, None)
    assert store.history("acme/1") == []
    assert store.claim_one().id == "acme/1", "its turn is not lost"
    check_store(store)


def test_a_released_claim_that_was_sent_goes_to_the_end_so_that_the_next_probe_is_another_job(store: Store) -> None:
    store.enqueue("acme/1", "acme/2")
    store.now_ms += 1
    assert store.end(store.claim_one(), Verb.RELEASE, "unauthorized", spends_attempt=False)
    assert [job.id for job in store.claim(2).jobs] == ["acme/2", "acme/1"]


def test_a_release_keeps_what_is_known_of_the_attempts_before(store: Store) -> None:
    store.enqueue("acme/1")
    store.end(store.claim_one(), Verb.RETRY, "server_error", strikes=3)
    store.promote()
    store.end(store.claim_one(), Verb.RELEASE, "-", entry="", spends_attempt=False)
    record = store.record("acme/1")
    assert (record.reason, record.strikes, record.attempts, record.job_class) == (
        "server_error",
        3,
        1,
        JobClass.RETRY,
    )


def test_an_answer_that_spends_no_attempt_is_in_the_history_all_the_same(store: Store) -> None:
    store.enqueue("acme/1")
    entry = '{"kind":"attempt","reason":"rate_limited"}'
    job = store.claim_one()
    assert store.end(
        job,
        Verb.RELEASE,
        "rate_limited",
        spends_attempt=False,
        entry=entry,
        effect=TenantEffectKind.FREEZE,
        effect_ms=30_000,
        delay_ms=7_000,
    )
    record = store.record("acme/1")
    assert (record.attempts, record.attempts_total) == (0, 1)
    assert (record.state, record.at, record.reason) == (State.SCHEDULED, START_MS + 7_000, "rate_limited")
    assert store.history("acme/1") == [entry]
    store.now_ms += 7_000
    store.promote()
    assert store.claim_one().attempts == 1


def test_a_token_that_was_never_given_out_settles_nothing(store: Store) -> None:
    store.enqueue("acme/1")
    job = store.claim_one()
    before = store.record("acme/1")
    for token in ("0", str(int(job.token) + 1), "", "-"):
        for verb in Verb:
            assert store.settle(Settlement("acme/1", token, verb, "paired", entry="{}")) == [False]
    assert store.record("acme/1") == before
    assert store.history("acme/1") == []
    check_store(store)


@pytest.mark.parametrize("verb", list(Verb))
def test_who_lost_the_lease_changes_nothing(store: Store, verb: Verb) -> None:
    store.enqueue(Item("acme/1", "10", "EUR"))
    late = store.claim_one()
    store.now_ms += LEASE_MS
    assert store.reclaim().ready == 1
    assert not store.end(late, verb), "ready again, nobody holds it"
    now = store.claim_one()
    assert not store.end(late, verb), "another one holds it"
    assert int(now.token) > int(late.token)
    assert store.end(now, Verb.DELIVER)
    ended = store.record("acme/1")
    assert not store.end(late, verb), "it has ended"
    assert not store.end(now, verb), "it has ended, its holder too is late"
    assert store.record("acme/1") == ended
    assert check_store(store).books["acme"].jobs["delivered_paired"] == 1


@pytest.mark.parametrize("effect", [TenantEffectKind.FREEZE, TenantEffectKind.HOLD])
@pytest.mark.parametrize("health", list(ServiceHealth))
def test_who_lost_the_lease_changes_nothing_of_its_tenant(
    store: Store, effect: TenantEffectKind, health: ServiceHealth
) -> None:
    store.breaker = Breaker(failures=1)
    store.enqueue("acme/1", "acme/2")
    late = store.claim_one()
    store.now_ms += LEASE_MS
    store.reclaim()
    before = store.tenant("acme")
    said = {"effect": effect, "effect_ms": 60_000, "health": health, "probe": True}
    assert not store.end(late, Verb.RELEASE, "unauthorized", **said)
    assert store.tenant("acme") == before
    assert len(store.claim().jobs) == 2


def test_a_holder_may_settle_after_its_lease_as_long_as_nobody_took_the_job_back(store: Store) -> None:
    store.enqueue("acme/1")
    job = store.claim_one()
    store.now_ms += 10 * LEASE_MS
    assert store.end(job, Verb.DELIVER)


def test_a_job_named_twice_in_a_batch_is_settled_once(store: Store) -> None:
    store.enqueue(Item("acme/1", "10", "EUR"))
    job = store.claim_one()
    deliver = Settlement(job.id, job.token, Verb.DELIVER, "paired", entry="{}")
    bury = Settlement(job.id, job.token, Verb.BURY, "server_error", entry="{}")
    assert store.settle(deliver, bury) == [True, False]
    check_store(store)


def test_a_batch_mixes_verbs_tenants_and_lost_leases(store: Store) -> None:
    store.enqueue(*(Item(f"{tenant}/{n}", "1.5", "EUR") for tenant in ("a", "b") for n in range(4)))
    verbs = list(Verb)
    jobs = store.claim(8).jobs
    settlements = [
        Settlement(job.id, job.token if i != 5 else "1", verbs[i % 4], "server_error", delay_ms=9, entry="{}")
        for i, job in enumerate(jobs)
    ]
    assert store.settle(*settlements) == [i != 5 for i in range(8)]
    check_store(store)


def test_settling_nothing_is_nothing(store: Store) -> None:
    assert store.settle() == []
    assert store.settle(Settlement("acme/none", "1", Verb.DELIVER, "paired")) == [False]
    assert not list(store.client.scan_iter(match=f"{store.keys.prefix}*"))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:-1],
        lambda a: [*a, "x"],
        lambda a: [*a[:2], "long", *a[3:]],
        lambda a: [*a[:3], "often", *a[4:]],
        lambda a: [*a[:4], "soon", *a[5:]],
        lambda a: [*a[:5], "later", *a[6:]],
        lambda a: [*a[:6], "many", *a[7:]],
        lambda a: [*a[:6], 2, *a[7:]],
        lambda a: [*a[:6], 5, *a[7:]],  # 44 values short, which both group widths divide
        lambda a: [*a[:9], "explode", *a[10:]],
        lambda a: [*a[:10], "soon", *a[11:]],
        lambda a: [*a[:11], "two words", *a[12:]],
        lambda a: [*a[:11], "", *a[12:]],
        lambda a: [*a[:12], "many", *a[13:]],
        lambda a: [*a[:16], "splendid", *a[17:]],
        lambda a: [*a, "acme", "explode", 0, "-"],
        lambda a: [*a, "acme", "freeze", "soon", "-"],
        lambda a: [*a, "acme", "clear", 0, "-"],
    ],
)
def test_an_unsound_batch_is_refused_before_any_write(store: Store, change: Callable[[list[Any]], list[Any]]) -> None:
    store.enqueue(Item("acme/1", "10", "EUR"))
    job = store.claim_one()
    before = store.record("acme/1")
    sound = [
        START_MS,
        envelope(store.keys.wakeups),
        WINDOW_MS,
        5,
        5_000,
        300_000,
        1,
        job.id,
        job.token,
        "deliver",
        0,
        "paired",
        0,
        0,
        1,
        "",
        "ok",
        0,
    ]
    with pytest.raises(redis.ResponseError, match="settle: "):
        store.run(ScriptCall(script("settle"), store.keys.prefix, tuple(change(sound)), list))
    assert store.record("acme/1") == before
    assert store.client.exists(store.keys.tenant("acme")) == 1  # the claim's own bookkeeping
    assert not store.client.hexists(store.keys.tenant("acme"), "frozen_until")
    check_store(store)
