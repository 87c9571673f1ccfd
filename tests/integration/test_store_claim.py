"""Claim: who is served next, how fast, and what limits a tenant, at exact virtual times."""

from collections import Counter
from typing import Any

import pytest
import redis

from tests.support.store import LEASE_MS, START_MS, Item, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.limits import Limits

FIVE_PER_S = Limits(rate_per_s=5, burst=1)


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def fill(store: Store, tenant: str, number: int, name: str = "") -> None:
    store.enqueue(*(f"{tenant}/{name}{n:04}" for n in range(number)))


def by_tenant(store: Store, wanted: int, limits: Limits) -> dict[str, int]:
    return dict(Counter(job.tenant for job in store.claim(wanted, limits=limits).jobs))


def test_a_claim_leases_the_job_and_records_the_attempt_before_anything_is_sent(store: Store) -> None:
    store.enqueue(Item("acme/1", "9.99", "EUR", body='{"x":1}'))
    job = store.claim_one()
    assert (job.id, job.tenant, job.body, job.attempts, job.attempts_total) == ("acme/1", "acme", b'{"x":1}', 1, 1)
    assert (job.strikes, job.last_reason, job.ambiguous, job.probe) == (0, "-", False, False)
    assert (job.epoch_ms, job.accepted_ms, job.job_class) == (START_MS, START_MS, JobClass.LIVE)
    record = store.record("acme/1")
    assert (record.state, record.at, record.attempts, record.token) == (
        State.IN_FLIGHT,
        START_MS + LEASE_MS,
        1,
        int(job.token),
    )
    check_store(store)


def test_tokens_only_rise(store: Store) -> None:
    fill(store, "acme", 6)
    tokens = [int(job.token) for _ in range(3) for job in store.claim(2).jobs]
    assert tokens == sorted(set(tokens))


def test_an_empty_store_says_that_nothing_waits(store: Store) -> None:
    claims = store.claim()
    assert (claims.jobs, claims.wait_ms) == ([], None)


def test_a_claim_takes_no_more_than_wanted_and_says_that_more_waits(store: Store) -> None:
    fill(store, "acme", 5)
    claims = store.claim(3)
    assert (len(claims.jobs), claims.wait_ms) == (3, 0)
    claims = store.claim(3)
    assert (len(claims.jobs), claims.wait_ms) == (2, None)


def test_a_claim_for_nothing_takes_nothing(store: Store) -> None:
    fill(store, "acme", 1)
    claims = store.claim(0)
    assert (claims.jobs, claims.wait_ms) == ([], 0)


def test_tenants_share_a_claim_however_many_jobs_one_of_them_has(store: Store) -> None:
    fill(store, "big", 200)
    fill(store, "mid", 20)
    fill(store, "tiny", 2)
    first = by_tenant(store, 30, Limits(rate_per_s=0))
    assert first == {"big": 10, "mid": 10, "tiny": 2}
    second = by_tenant(store, 30, Limits(rate_per_s=0))
    assert second == {"big": 15, "mid": 10}
    check_store(store)


def test_with_one_job_wanted_at_a_time_tenants_take_turns(store: Store) -> None:
    for tenant in ("a", "b", "c"):
        fill(store, tenant, 9)
    order = []
    for _ in range(9):
        order.append(store.claim_one().tenant)
        store.now_ms += 1
    assert Counter(order) == {"a": 3, "b": 3, "c": 3}
    assert all(len(set(order[i : i + 3])) == 3 for i in range(0, 9, 3)), order


def test_a_second_claim_in_the_same_moment_finds_what_the_first_left(store: Store) -> None:
    fill(store, "acme", 4)
    assert [len(store.claim(1).jobs) for _ in range(5)] == [1, 1, 1, 1, 0]


def test_each_of_more_tenants_than_a_claim_visits_is_served_in_the_end(store: Store) -> None:
    tenants = {f"t{n}" for n in range(150)}
    store.enqueue(*(f"{tenant}/1" for tenant in sorted(tenants)))
    served: set[str] = set()
    for _ in range(5):
        served |= {job.tenant for job in store.claim(64).jobs}
        store.now_ms += 1
    assert served == tenants


def mixed(store: Store, number: int) -> None:
    """Make `number` ready jobs of each class."""
    fill(store, "acme", number, "redrive")
    for job in store.claim(number).jobs:
        store.end(job, Verb.BURY, "server_error")
    store.redrive(*(f"acme/redrive{n:04}" for n in range(number)))
    in_redrive = {f"acme/redrive{n:04}" for n in range(number)}
    fill(store, "acme", number, "retry")
    taken = store.claim(2 * number).jobs
    for job in taken:
        if job.id in in_redrive:
            store.end(job, Verb.RELEASE, "-", entry="", spends_attempt=False)
        else:
            store.end(job, Verb.RETRY, "server_error")
    assert store.promote() == number
    fill(store, "acme", number, "live")


@pytest.mark.parametrize("step", [1, 10, 40])
def test_live_retried_and_redriven_jobs_have_their_shares(store: Store, step: int) -> None:
    mixed(store, 40)
    classes: Counter[str] = Counter()
    for _ in range(40 // step):
        classes.update(job.job_class for job in store.claim(step).jobs)
    assert classes == {"live": 28, "retry": 8, "redrive": 4}
    check_store(store)


def test_a_share_nobody_uses_goes_to_the_others(store: Store) -> None:
    mixed(store, 3)
    claims = store.claim(100)
    assert Counter(job.job_class for job in claims.jobs) == {"live": 3, "retry": 3, "redrive": 3}
    assert claims.wait_ms is None


def test_a_budget_of_five_a_second_gives_one_job_each_200_ms_exactly(store: Store) -> None:
    fill(store, "acme", 20)
    claims = store.claim(10, limits=FIVE_PER_S)
    assert (len(claims.jobs), claims.wait_ms) == (1, 0)
    claims = store.claim(10, limits=FIVE_PER_S)
    assert (claims.jobs, claims.wait_ms) == ([], 200)
    store.now_ms += 199
    claims = store.claim(10, limits=FIVE_PER_S)
    assert (claims.jobs, claims.wait_ms) == ([], 1)
    store.now_ms += 1
    assert len(store.claim(10, limits=FIVE_PER_S).jobs) == 1


def test_a_budget_that_was_not_used_does_not_add_up_beyond_the_burst(store: Store) -> None:
    fill(store, "acme", 40)
    limits = Limits(rate_per_s=10, burst=4)
    assert len(store.claim(10, limits=limits).jobs) == 4
    store.now_ms += 3_600_000
    assert len(store.claim(10, limits=limits).jobs) == 4
    store.now_ms += 250
    assert len(store.claim(10, limits=limits).jobs) == 2, "250 ms at 10/s earn two whole requests"
    store.now_ms += 49
    assert store.claim(10, limits=limits).jobs == []
    store.now_ms += 1
    assert len(store.claim(10, limits=limits).jobs) == 1, "and the half one was not lost"


@pytest.mark.parametrize("rate", [3.0, 5.0, 7.0, 50.0])
def test_over_a_minute_a_tenant_gets_its_rate_and_no_more(store: Store, rate: float) -> None:
    fill(store, "acme", int(rate * 60) + 50)
    limits = Limits(rate_per_s=rate, burst=2, cap=10_000)
    end, served = START_MS + 60_000, 0
    while store.now_ms < end:
        claims = store.claim(10, limits=limits)
        served += len(claims.jobs)
        if not claims.jobs:
            assert claims.wait_ms, "a claim that brought nothing says how long to wait"
            store.now_ms += claims.wait_ms
    assert rate * 60 - 2 <= served <= rate * 60 + 2


def test_the_budget_of_one_tenant_is_not_the_others(store: Store) -> None:
    fill(store, "a", 3)
    fill(store, "b", 3)
    assert by_tenant(store, 10, FIVE_PER_S) == {"a": 1, "b": 1}


def test_a_tenants_own_limits_go_before_the_defaults(store: Store) -> None:
    fill(store, "slow", 9)
    fill(store, "fast", 9)
    store.client.hset(store.keys.tenant("slow"), mapping={"rate_us": 1_000_000, "burst": 1})
    store.client.hset(store.keys.tenant("fast"), mapping={"rate_us": 0, "burst": 1})
    assert by_tenant(store, 18, FIVE_PER_S) == {"fast": 9, "slow": 1}
    assert store.claim(9, limits=FIVE_PER_S).jobs == []
    store.now_ms += 1000
    assert by_tenant(store, 9, FIVE_PER_S) == {"slow": 1}


def test_retries_and_redrives_spend_the_same_budget(store: Store) -> None:
    mixed(store, 5)
    store.now_ms += 1
    assert len(store.claim(15, limits=FIVE_PER_S).jobs) == 1
    assert store.claim(15, limits=FIVE_PER_S).jobs == []


def test_a_frozen_tenant_waits_until_the_very_moment_and_spends_no_attempts(store: Store) -> None:
    fill(store, "acme", 2)
    until = START_MS + 90_000
    store.freeze("acme", 90_000)
    assert store.claim().jobs == []
    assert store.claim().wait_ms == 60_000, "looked at again meanwhile"
    store.now_ms = until - 1
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 1)
    store.now_ms = until
    assert [job.attempts for job in store.claim().jobs] == [1, 1]


def test_a_shorter_freeze_does_not_end_a_longer_one(store: Store) -> None:
    fill(store, "acme", 1)
    store.freeze("acme", 5_000)
    store.freeze("acme", 1_000)
    store.now_ms += 4_999
    assert store.claim().jobs == []


def test_a_freeze_of_one_tenant_leaves_the_others_alone(store: Store) -> None:
    fill(store, "a", 1)
    fill(store, "b", 1)
    store.freeze("a", 5_000)
    claims = store.claim()
    assert [job.tenant for job in claims.jobs] == ["b"]
    assert claims.wait_ms == 5_000


def test_a_held_tenant_sends_one_group_of_probes_at_a_time(store: Store) -> None:
    fill(store, "acme", 5)
    store.hold("acme", "unauthorized", 1_000)
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 1_000)
    store.now_ms += 1_000
    claims = store.claim(lease_ms=60_000)
    assert [job.probe for job in claims.jobs] == [True] * 3
    assert claims.wait_ms == 60_000
    assert store.claim().jobs == []
    store.now_ms += 59_999
    assert store.claim().jobs == []
    store.now_ms += 1
    assert [job.probe for job in store.claim().jobs] == [True] * 2, "the lease of the first ones has ended"


def test_a_probe_that_works_ends_the_hold_at_once(store: Store) -> None:
    fill(store, "acme", 5)
    store.hold("acme", "unauthorized", 1_000)
    store.now_ms += 1_000
    (probe,) = store.claim(1).jobs
    assert store.claim().jobs == []
    store.end(probe, Verb.DELIVER)
    jobs = store.claim().jobs
    assert [job.probe for job in jobs] == [False] * 4
    assert not store.client.hexists(store.keys.tenant("acme"), "held_since")


def test_the_probes_of_a_refused_tenant_are_its_newest_jobs_and_those_of_an_outage_its_oldest(store: Store) -> None:
    for tenant, reason in (("a", "forbidden"), ("b", "outage"), ("c", "rate_limited")):
        fill(store, tenant, 5)
        store.hold(tenant, reason, 0)
    probes: dict[str, list[Any]] = {tenant: [] for tenant in "abc"}
    for job in store.claim().jobs:
        probes[job.tenant].append(job.id[-1])
    assert probes == {"a": ["4", "3", "2"], "b": ["0", "1", "2"], "c": ["4"]}


def test_a_paused_tenant_is_not_served_until_it_is_resumed(store: Store) -> None:
    fill(store, "acme", 2)
    assert store.pause("acme")
    assert not store.pause("acme"), "a second pause changes nothing"
    store.enqueue("acme/later")
    assert (store.claim().jobs, store.claim().wait_ms) == ([], None)
    store.now_ms += 86_400_000
    assert store.claim().jobs == []
    check_store(store)
    assert store.resume("acme")
    assert not store.resume("acme")
    assert len(store.claim().jobs) == 3
    check_store(store)


def test_a_resume_ends_a_freeze_and_probes_a_held_tenant_now(store: Store) -> None:
    fill(store, "frozen", 1)
    fill(store, "held", 2)
    store.freeze("frozen", 9_000)
    store.hold("held", "unauthorized", 9_000)
    assert store.claim().jobs == []
    assert store.resume("frozen")
    assert store.resume("held")
    assert {(job.tenant, job.probe) for job in store.claim().jobs} == {("frozen", False), ("held", True)}


def test_a_cap_bounds_the_requests_in_flight(store: Store) -> None:
    fill(store, "acme", 9)
    limits = Limits(rate_per_s=0, cap=3)
    jobs = store.claim(10, limits=limits).jobs
    assert len(jobs) == 3
    claims = store.claim(10, limits=limits)
    assert (claims.jobs, claims.wait_ms) == ([], 1_000)
    store.end(jobs[0], Verb.DELIVER)
    assert len(store.claim(10, limits=limits).jobs) == 1, "its turn came back at once"
    assert store.claim(10, limits=limits).jobs == []
    store.now_ms += 1_000
    assert store.claim(10, limits=limits).jobs == [], "looked at again, and still at its cap"


def test_strays_in_the_ready_index_are_dropped_counted_and_break_no_claim(store: Store) -> None:
    fill(store, "acme", 3)
    store.client.delete(store.keys.job("acme/0000"))
    store.client.zadd(store.keys.ready("acme", "live"), {"acme/never-was": 1})
    jobs = store.claim().jobs
    assert [job.id for job in jobs] == ["acme/0001", "acme/0002"]
    assert store.client.zcard(store.keys.ready("acme", "live")) == 0
    assert store.client.hget(store.keys.ledger("acme"), "orphaned_entries") == b"2"
    assert [store.end(job, Verb.DELIVER) for job in jobs] == [True, True]
