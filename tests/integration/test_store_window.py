"""The window of a tenant's requests in flight, its cap, its own limits and its pace after a 429, at exact times."""

import pytest
import redis

from tests.support.store import START_MS, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.domain.outcome import ServiceHealth
from trackdesk_worker.domain.policy import Policy

TEN_PER_S = Limits(rate_per_s=10, burst=1)
MINUTE_MS = 60_000


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys, proven=False)


def fill(store: Store, number: int, tenant: str = "acme") -> None:
    store.enqueue(*(f"{tenant}/{n:04}" for n in range(number)))


def delivered(*jobs: ClaimedJob) -> list[Settlement]:
    return [Settlement(j.id, j.token, Verb.DELIVER, "paired", entry="{}", health=ServiceHealth.OK) for j in jobs]


def freeze(store: Store, for_ms: int, tenant: str = "acme") -> None:
    store.freeze(tenant, for_ms)


def pause_between_requests(store: Store, limits: Limits) -> int | None:
    """Claim once, and return how long the tenant then has to wait, in ms."""
    assert len(store.claim(1, limits=limits).jobs) == 1
    return store.claim(1, limits=limits).wait_ms


def test_a_new_tenant_has_five_requests_in_flight_and_more_as_trackdesk_answers(store: Store) -> None:
    fill(store, 60)
    first = store.claim()
    assert (len(first.jobs), first.wait_ms) == (5, 0)
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 1_000)
    store.settle(*delivered(first.jobs[0]))
    assert len(store.claim().jobs) == 2, "one for the one that ended, one for its answer"
    store.settle(*delivered(*first.jobs[1:]))
    assert len(store.claim().jobs) == 8, "four answers in one batch count as four"
    assert store.tenant("acme")["window"] == "10"
    check_store(store)


def test_a_window_that_is_not_used_up_does_not_grow(store: Store) -> None:
    for _ in range(10):
        store.enqueue(*(f"acme/{store.now_ms}-{n}" for n in range(4)))
        jobs = store.claim().jobs
        assert len(jobs) == 4
        store.settle(*delivered(*jobs))
        store.now_ms += 1
    fill(store, 20)
    jobs = store.claim().jobs
    assert len(jobs) == 5
    store.settle(*delivered(jobs[0]))
    store.settle(*delivered(*jobs[1:]))
    assert len(store.claim().jobs) == 6, "full at the first answer, not at those after it"


@pytest.mark.parametrize("health", [ServiceHealth.UNKNOWN, ServiceHealth.FAIL])
def test_only_proper_answers_let_the_window_grow(store: Store, health: ServiceHealth) -> None:
    fill(store, 20)
    for job in store.claim().jobs[:4]:
        store.end(job, Verb.RELEASE, "rate_limited", spends_attempt=False, health=health)
    assert len(store.claim().jobs) == 4


def test_the_window_never_gets_beyond_the_cap(store: Store) -> None:
    fill(store, 100)
    limits = Limits(rate_per_s=0, cap=7)
    most = 0
    for _ in range(10):
        jobs = store.claim(limits=limits).jobs
        most = max(most, len(jobs))
        store.settle(*delivered(*jobs))
    assert most == 7
    assert int(store.tenant("acme")["window"]) <= 2 * 7


def test_a_capped_tenant_gets_its_turn_back_and_a_wake_up_when_it_settles(store: Store) -> None:
    fill(store, 20)
    jobs = store.claim().jobs
    assert store.claim().jobs == []
    assert not store.wake(), "at its cap it wakes nobody"
    store.client.delete(store.keys.wakeups)
    store.end(jobs[0], Verb.RETRY, "conflict", delay_ms=MINUTE_MS)
    assert store.client.llen(store.keys.wakeups) == 1
    assert len(store.claim().jobs) == 1


def test_a_capped_tenant_whose_claims_were_lost_has_its_places_again_when_their_leases_end(store: Store) -> None:
    fill(store, 20)
    store.claim(lease_ms=10_000)
    store.now_ms += 9_999
    assert store.claim().jobs == []
    store.now_ms += 1_000
    assert len(store.claim().jobs) == 5
    assert store.reclaim().ready == 5


def test_one_tenant_at_its_cap_leaves_the_others_alone(store: Store) -> None:
    fill(store, 20, "a")
    store.claim()
    fill(store, 3, "b")
    assert [job.tenant for job in store.claim().jobs] == ["b"] * 3


def apply(store: Store, own: dict[str, Limits]) -> None:
    policies = {tenant: (limits, Policy()) for tenant, limits in own.items()}
    store.run(store.jobs.limits(["a", "b"], policies))


def test_limits_of_a_tenants_own_go_before_the_defaults_until_they_are_taken_away(store: Store) -> None:
    fill(store, 50, "a")
    fill(store, 50, "b")
    store.client.hset(store.keys.tenant("a"), "window", 1000)
    apply(store, {"a": Limits(rate_per_s=2, burst=3, cap=4)})
    jobs = store.claim(limits=TEN_PER_S).jobs
    assert [job.tenant for job in jobs].count("a") == 3, "its burst"
    store.now_ms += 1_000
    jobs = store.claim(limits=TEN_PER_S).jobs
    assert [job.tenant for job in jobs].count("a") == 1, "two by its rate, one by its cap"
    assert [job.tenant for job in jobs].count("b") == 1
    apply(store, {})
    store.now_ms += 10_000
    jobs = store.claim(limits=Limits(rate_per_s=1, burst=20)).jobs
    assert [job.tenant for job in jobs].count("a") > 4, "the default's burst and cap again"
    assert store.tenant("a").keys() & {"rate_us", "burst", "cap"} == set()
    assert store.tenant("a")["window"] == "1000", "what it has shown is its own"


def test_a_tenant_of_its_own_may_be_unlimited(store: Store) -> None:
    fill(store, 50, "a")
    store.client.hset(store.keys.tenant("a"), "window", 1000)
    apply(store, {"a": Limits(rate_per_s=0)})
    assert len(store.claim(limits=TEN_PER_S).jobs) == 50


def test_after_a_429_the_pace_is_halved_and_climbs_back_linearly_in_two_and_a_half_minutes(store: Store) -> None:
    store.client.hset(store.keys.tenant("acme"), "window", 1000)
    fill(store, 60)
    assert pause_between_requests(store, TEN_PER_S) == 100
    freeze(store, MINUTE_MS)
    end = store.now_ms + MINUTE_MS
    store.now_ms = end - 1
    assert (store.claim(limits=TEN_PER_S).jobs, store.claim(limits=TEN_PER_S).wait_ms) == ([], 1)
    # A factor f makes 100 ms 100 / f; it is 1/2 at the end of the freeze and grows by 1/300 a second.
    for after_s, pause_ms in ((0, 200), (30, 167), (75, 134), (120, 112), (149, 101), (150, 100), (7200, 100)):
        store.now_ms = end + after_s * 1_000
        assert pause_between_requests(store, TEN_PER_S) == pause_ms, after_s


def test_the_429s_of_one_episode_halve_the_pace_once_and_may_prolong_it(store: Store) -> None:
    fill(store, 9)
    for for_ms in (MINUTE_MS, MINUTE_MS + 500, 1_000, MINUTE_MS + 700):
        freeze(store, for_ms)
        store.now_ms += 10
    state = store.tenant("acme")
    assert (state["factor"], state["frozen_until"]) == ("0.5", str(START_MS + 30 + MINUTE_MS + 700))
    assert store.client.hget(store.keys.ledger("acme"), "freezes") == b"1"


def test_of_several_throttled_answers_to_one_burst_the_longest_counts(store: Store) -> None:
    store.freeze("acme", 5_000, MINUTE_MS, 1_000)
    state = store.tenant("acme")
    assert (state["factor"], state["frozen_until"]) == ("0.5", str(START_MS + MINUTE_MS))
    assert store.client.hget(store.keys.ledger("acme"), "freezes") == b"1"


def test_each_further_episode_halves_what_was_left_down_to_a_quarter(store: Store) -> None:
    fill(store, 9)
    factors = []
    for climb_ms in (1, 150_000, 1, 1):
        freeze(store, MINUTE_MS)
        factors.append(float(store.tenant("acme")["factor"]))
        store.now_ms += MINUTE_MS + climb_ms
    assert factors == pytest.approx([0.5, 0.25 + 0.5 / 300_000, 0.25 + 0.125, 0.25], abs=1e-5)
    store.now_ms += 5 * MINUTE_MS
    freeze(store, MINUTE_MS)
    assert float(store.tenant("acme")["factor"]) == 0.5, "back at the full pace before"
    assert store.client.hget(store.keys.ledger("acme"), "freezes") == b"5"


def test_a_freeze_of_the_past_stops_nobody(store: Store) -> None:
    fill(store, 2)
    freeze(store, -1_000)
    assert len(store.claim().jobs) == 2


def test_resume_ends_the_freeze_and_the_slower_pace(store: Store) -> None:
    store.client.hset(store.keys.tenant("acme"), "window", 1000)
    fill(store, 9)
    freeze(store, MINUTE_MS)
    assert store.claim(limits=TEN_PER_S).jobs == []
    assert store.resume("acme")
    assert pause_between_requests(store, TEN_PER_S) == 100
    assert store.tenant("acme").keys() & {"factor", "frozen_until", "frozen_reason"} == set()
    assert not store.resume("acme")


@pytest.mark.parametrize("burst", [1, 2, 5])
def test_however_the_pace_changes_no_more_goes_out_at_once_than_the_burst(store: Store, burst: int) -> None:
    store.client.hset(store.keys.tenant("acme"), "window", 1000)
    fill(store, 60)
    limits = Limits(rate_per_s=10, burst=burst)
    assert len(store.claim(limits=limits).jobs) == burst
    freeze(store, 10)
    store.now_ms += 10
    assert len(store.claim(limits=limits).jobs) <= burst
    store.now_ms += 3_600_000
    assert len(store.claim(limits=limits).jobs) == burst
