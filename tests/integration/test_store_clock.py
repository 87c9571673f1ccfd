"""A store whose clock jumps, forward or back: nothing waits longer for it than one lease, freeze or probe."""

import random

import pytest
import redis

from tests.support.planted import CLOCK_EDITS, plant
from tests.support.store import LEASE_MS, START_MS, Item, Store
from tests.support.store_check import check_store, walk_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.limits import Breaker, Limits
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind
from trackdesk_worker.domain.policy import Policy

HOUR_MS = 3_600_000
AHEAD_MS = 2 * HOUR_MS
PROBE_MS = 60_000


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def maintain(store: Store) -> None:
    """Do what every worker does twice a second."""
    store.run(store.jobs.alive("worker:1", forget_after_ms=86_400_000, now_ms=store.now_ms))
    store.promote()
    store.reclaim()
    store.wake()


def live(store: Store, for_ms: int, limits: Limits = Limits()) -> list[str]:
    """Let a worker that delivers everything work for a while; return what it sent."""
    sent = []
    for beat in range(for_ms // 500):
        if beat % 4 == 0:
            maintain(store)
        for job in store.claim(limits=limits).jobs:
            store.end(job, Verb.DELIVER)
            sent.append(job.id)
        store.now_ms += 500
    return sent


def test_a_retry_that_a_clock_ahead_scheduled_waits_no_longer_than_it_was_to(store: Store) -> None:
    store.enqueue("acme/1")
    store.now_ms += AHEAD_MS
    store.end(store.claim_one(), Verb.RETRY, "server_error", delay_ms=20_000)
    store.now_ms -= AHEAD_MS
    assert live(store, 19_500) == []
    assert live(store, 3_000) == ["acme/1"]
    check_store(store)


def test_a_time_that_the_caller_named_is_kept_whatever_the_clock_does(store: Store) -> None:
    due_ms = START_MS + 3 * HOUR_MS
    store.enqueue(Item("acme/1", due_ms=due_ms))
    store.now_ms += AHEAD_MS
    maintain(store)
    store.now_ms -= AHEAD_MS
    maintain(store)
    assert (store.record("acme/1").state, store.record("acme/1").at) == (State.SCHEDULED, due_ms)


def test_a_lease_that_a_clock_ahead_gave_ends_a_lease_after_the_correction(store: Store) -> None:
    store.enqueue("acme/1")
    store.now_ms += AHEAD_MS
    late = store.claim_one()
    store.now_ms -= AHEAD_MS
    maintain(store)
    check_store(store)
    store.now_ms += LEASE_MS
    maintain(store)
    assert store.record("acme/1").state is State.READY
    assert not store.end(late, Verb.DELIVER)
    assert live(store, 1_000) == ["acme/1"]


def test_a_worker_with_a_longer_lease_keeps_it(store: Store) -> None:
    store.enqueue("acme/1")
    policy = Policy()
    store.run(store.jobs.reclaim(policy=policy, lease_ms=10 * LEASE_MS, now_ms=store.now_ms))
    holder = store.claim(lease_ms=10 * LEASE_MS).jobs[0]
    store.now_ms += 9 * LEASE_MS
    maintain(store)
    assert store.end(holder, Verb.DELIVER)


def test_a_freeze_by_a_clock_ahead_lasts_its_own_time_at_most(store: Store) -> None:
    store.enqueue("acme/1")
    store.now_ms += AHEAD_MS
    store.freeze("acme", 60_000)
    assert store.claim().jobs == []
    store.now_ms -= AHEAD_MS
    assert live(store, 61_000) == ["acme/1"]


def test_a_hold_by_a_clock_ahead_is_probed_within_its_own_interval(store: Store) -> None:
    store.enqueue("acme/1", "acme/2")
    store.now_ms += AHEAD_MS
    store.hold("acme", "unauthorized", PROBE_MS)
    assert store.claim().jobs == []
    store.now_ms -= AHEAD_MS
    assert sorted(live(store, PROBE_MS + 1_500)) == ["acme/1", "acme/2"]


def test_a_probe_that_a_clock_ahead_sent_has_a_successor_a_lease_later(store: Store) -> None:
    store.enqueue("acme/1", "acme/2")
    store.hold("acme", "unauthorized", PROBE_MS)
    store.now_ms += AHEAD_MS
    assert store.claim_one().probe
    store.now_ms -= AHEAD_MS
    assert sorted(live(store, LEASE_MS + 61_000)) == ["acme/1", "acme/2"]


def test_a_budget_that_a_clock_ahead_spent_is_whole_again_within_its_burst(store: Store) -> None:
    limits = Limits(rate_per_s=5, burst=2)
    store.enqueue(*(f"acme/{n}" for n in range(8)))
    store.now_ms += AHEAD_MS
    assert len(store.claim(limits=limits).jobs) == 2
    store.now_ms -= AHEAD_MS
    assert len(live(store, 3_000, limits)) >= 5


def test_a_higher_limit_counts_at_once_and_not_after_the_time_of_the_one_before(store: Store) -> None:
    slow, fast = Limits(rate_per_s=0.001, burst=2), Limits(rate_per_s=20, burst=2)
    policy = Policy()
    store.enqueue(*(f"acme/{n}" for n in range(30)))
    store.run(store.jobs.limits(["acme"], {"acme": (slow, policy)}, now_ms=store.now_ms))
    assert len(store.claim().jobs) == 2
    assert store.claim().jobs == []
    store.run(store.jobs.limits(["acme"], {"acme": (fast, policy)}, now_ms=store.now_ms))
    assert len(live(store, 20_000)) == 28


def test_a_resume_ends_what_a_clock_ahead_left_behind(store: Store) -> None:
    store.enqueue("frozen/1", "held/1")
    store.now_ms += AHEAD_MS
    store.freeze("frozen", HOUR_MS)
    store.hold("held", "unauthorized", HOUR_MS)
    assert store.claim().jobs == []
    store.now_ms -= AHEAD_MS
    store.resume("frozen")
    store.resume("held")
    assert {job.id for job in store.claim().jobs} == {"frozen/1", "held/1"}


def test_a_worker_that_died_while_the_clock_was_ahead_is_not_taken_for_alive(store: Store) -> None:
    store.run(store.jobs.alive("dead:1", forget_after_ms=86_400_000, now_ms=store.now_ms + AHEAD_MS))
    maintain(store)
    assert store.client.zrange(store.keys.workers, 0, -1) == [b"worker:1"]


def test_what_was_accepted_after_a_clock_ahead_named_a_doubt_is_not_in_doubt(store: Store) -> None:
    store.enqueue("acme/1")
    store.now_ms += AHEAD_MS
    store.restored("acme")
    store.now_ms -= AHEAD_MS
    assert store.claim_one().ambiguous
    store.now_ms += 1
    store.enqueue("acme/2")
    assert not store.claim_one().ambiguous


@pytest.mark.parametrize("act", ["edit", "redrive", "cancel"])
def test_an_operators_act_too_ends_a_doubt_that_a_clock_ahead_put_in_the_future(store: Store, act: str) -> None:
    store.bury("acme/1")
    store.enqueue("acme/2")
    store.now_ms += AHEAD_MS
    store.restored("acme")
    store.now_ms -= AHEAD_MS
    match act:
        case "edit":
            assert store.edit(Item("acme/1", fingerprint="other")) == "ok"
        case "redrive":
            assert store.redrive("acme/1") == ["redriven"]
        case _:
            assert store.cancel("acme/2") == ["refused:ready"]
    store.now_ms += 1
    store.enqueue("acme/3")
    assert store.cancel("acme/3") == ["cancelled"]


def test_who_lost_its_lease_does_not_hold_its_tenant(store: Store) -> None:
    store.enqueue("acme/1")
    late = store.claim_one()
    store.now_ms += LEASE_MS
    maintain(store)
    holder = store.claim_one()
    assert not store.end(late, Verb.RELEASE, "unauthorized", effect=TenantEffectKind.HOLD, effect_ms=PROBE_MS)
    assert store.end(holder, Verb.DELIVER)


RULES = (
    test_a_retry_that_a_clock_ahead_scheduled_waits_no_longer_than_it_was_to,
    test_a_lease_that_a_clock_ahead_gave_ends_a_lease_after_the_correction,
    test_a_freeze_by_a_clock_ahead_lasts_its_own_time_at_most,
    test_a_budget_that_a_clock_ahead_spent_is_whole_again_within_its_burst,
    test_who_lost_its_lease_does_not_hold_its_tenant,
)


@pytest.mark.parametrize("bug", CLOCK_EDITS)
def test_a_planted_bug_breaks_a_rule(bug: str, client: redis.Redis, keys: Keys) -> None:
    take_out = plant(bug)
    broken = []
    try:
        for place, rule in enumerate(RULES):
            try:
                rule(Store(client, Keys(f"{keys.namespace}-{place}")))
            except AssertionError:
                broken.append(rule.__name__)
    finally:
        take_out()
    assert broken


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_while_the_clock_jumps_all_is_delivered_soon_after(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    store.breaker = Breaker(failures=3)
    store.enqueue(*(f"{tenant}/{n}" for tenant in ("a", "b", "c") for n in range(6)))
    for _ in range(60):
        if rng.random() < 0.15:
            store.now_ms += rng.choice([AHEAD_MS, -AHEAD_MS, 600_000, -600_000, 5_000, -5_000])
        maintain(store)
        for job in store.claim(rng.randint(1, 4), limits=Limits()).jobs:
            match rng.randrange(5):
                case 0:
                    pass  # its worker dies
                case 1:
                    store.end(
                        job, Verb.RETRY, "server_error", delay_ms=rng.randint(0, 120_000), health=ServiceHealth.FAIL
                    )
                case 2:
                    freeze = {"effect": TenantEffectKind.FREEZE, "effect_ms": rng.randint(1_000, 75_000)}
                    store.end(job, Verb.RELEASE, "rate_limited", spends_attempt=False, **freeze)
                case 3:
                    hold = {"effect": TenantEffectKind.HOLD, "effect_ms": PROBE_MS}
                    store.end(job, Verb.RELEASE, "unauthorized", spends_attempt=False, **hold)
                case _:
                    store.end(job, Verb.DELIVER)
        store.now_ms += rng.randint(0, 2_000)
    store.now_ms += rng.choice([AHEAD_MS, -AHEAD_MS, -600_000])
    # The longest of all waits, one after the other: a freeze, an interval between probes, a retry, a lease.
    live(store, 75_000 + 300_000 + 120_000 + LEASE_MS + 60_000)
    walk = walk_store(store)
    left = {record.id: record.state for record in walk.records.values()}
    assert set(left.values()) == {State.DELIVERED}, left
    # A sale accepted by a clock ahead ends, by its tombstone, when it was accepted: later than by the clock put right.
    assert [wrong for wrong in walk.wrong if "would be pruned before it ended" not in wrong] == []
