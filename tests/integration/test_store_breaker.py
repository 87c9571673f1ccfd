"""Breaker and hold: what opens them, one probe at a time, and what closes them, at exact virtual times."""

import pytest
import redis

from tests.support.store import LEASE_MS, START_MS, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Breaker
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind

FIRST_MS, LAST_MS = 5_000, 300_000
OPEN_STATE = {"hold", "held_since", "probe_at", "probe_ms", "probe_token"}


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def fill(store: Store, number: int, tenant: str = "acme") -> None:
    store.enqueue(*(f"{tenant}/{n:04}" for n in range(number)))


def failed(job: ClaimedJob, verb: Verb = Verb.RETRY) -> Settlement:
    entry = '{"kind":"attempt"}'
    return Settlement(
        job.id, job.token, verb, "server_error", 2_000, 1, entry=entry, health=ServiceHealth.FAIL, probe=job.probe
    )


def refused(job: ClaimedJob, probe_in_ms: int = 60_000) -> Settlement:
    """A 401: given back, nothing said of Trackdesk's health, and the tenant held."""
    return Settlement(
        job.id,
        job.token,
        Verb.RELEASE,
        "unauthorized",
        spends_attempt=False,
        entry='{"kind":"attempt"}',
        probe=job.probe,
        effect=TenantEffectKind.HOLD,
        effect_ms=probe_in_ms,
    )


def fail(store: Store, *jobs: ClaimedJob) -> None:
    """Settle failures one by one."""
    for job in jobs:
        assert store.settle(failed(job)) == [True]


def open_breaker(store: Store, spare: int = 5) -> None:
    """Let five jobs fail; `spare` others wait."""
    fill(store, 5 + spare)
    fail(store, *store.claim(5).jobs)
    assert store.tenant("acme")["hold"] == "outage"


def next_probe_in(store: Store) -> int:
    return int(store.tenant("acme")["probe_at"]) - store.now_ms


def probe(store: Store) -> ClaimedJob:
    """Claim the one probe there must be now."""
    (job,) = store.claim().jobs
    assert job.probe
    return job


def test_five_failures_in_a_row_open_the_breaker_and_four_do_not(store: Store) -> None:
    fill(store, 10)
    jobs = store.claim(5).jobs
    fail(store, *jobs[:4])
    assert store.tenant("acme")["streak"] == "4"
    assert not store.tenant("acme").keys() & OPEN_STATE
    assert len(store.claim(1).jobs) == 1
    store.now_ms += 7
    fail(store, jobs[4])
    state = store.tenant("acme")
    assert (state["hold"], state["held_since"]) == ("outage", str(START_MS + 7))
    assert (store.claim().jobs, store.claim().wait_ms) == ([], FIRST_MS)
    check_store(store.client, store.keys)


def test_one_proper_answer_between_starts_the_count_anew(store: Store) -> None:
    fill(store, 20)
    jobs = store.claim(9).jobs
    fail(store, *jobs[:4])
    store.end(jobs[4], Verb.DELIVER)
    fail(store, *jobs[5:])
    assert "hold" not in store.tenant("acme")
    fail(store, store.claim_one())
    assert store.tenant("acme")["hold"] == "outage"


def test_answers_that_say_nothing_of_trackdesk_neither_count_nor_start_anew(store: Store) -> None:
    fill(store, 20)
    jobs = store.claim(9).jobs
    fail(store, *jobs[:4])
    for job in jobs[4:8]:
        store.end(job, Verb.RELEASE, "rate_limited", spends_attempt=False)
    assert store.tenant("acme")["streak"] == "4"
    fail(store, jobs[8])
    assert store.tenant("acme")["hold"] == "outage"


def test_the_count_runs_through_batches_and_within_one(store: Store) -> None:
    fill(store, 20)
    jobs = store.claim(12).jobs
    ok = Settlement(jobs[4].id, jobs[4].token, Verb.DELIVER, "paired", entry="{}", health=ServiceHealth.OK)
    store.settle(*(failed(job) for job in jobs[:4]), ok, *(failed(job) for job in jobs[5:8]))
    assert store.tenant("acme")["streak"] == "3"
    store.settle(*(failed(job) for job in jobs[8:]))
    assert store.tenant("acme")["hold"] == "outage"
    attempts = [store.record(job.id).attempts for job in jobs[8:]]
    assert attempts == [1, 0, 0, 0], "what came before the breaker opened is spent, and nothing after"


@pytest.mark.parametrize("failures", [1, 2, 9])
def test_how_many_failures_open_it_is_a_setting(store: Store, failures: int) -> None:
    store.breaker = Breaker(failures=failures, first_probe_ms=700)
    fill(store, 20)
    jobs = store.claim(failures).jobs
    fail(store, *jobs[:-1])
    assert "hold" not in store.tenant("acme")
    fail(store, jobs[-1])
    assert next_probe_in(store) == 700


def test_a_failure_whose_lease_was_lost_counts_for_nothing(store: Store) -> None:
    fill(store, 5)
    jobs = store.claim().jobs
    store.now_ms += LEASE_MS
    store.reclaim()
    assert store.settle(*(failed(job) for job in jobs)) == [False] * 5
    assert not store.tenant("acme").keys() & {"streak", "hold"}


def test_the_failure_that_opens_it_and_those_in_flight_spend_no_attempt(store: Store) -> None:
    fill(store, 8)
    jobs = store.claim().jobs
    fail(store, *jobs[:4])
    assert [store.record(job.id).state for job in jobs[:4]] == [State.SCHEDULED] * 4
    assert [store.record(job.id).attempts for job in jobs[:4]] == [1] * 4
    store.now_ms += 3
    assert store.settle(failed(jobs[4]), failed(jobs[5]), failed(jobs[6], Verb.BURY)) == [True] * 3
    for job in jobs[4:7]:
        record = store.record(job.id)
        assert (record.state, record.attempts, record.attempts_total) == (State.READY, 0, 1)
        assert (record.job_class, record.strikes, record.reason) == (JobClass.LIVE, 0, None)
        assert record.at == store.now_ms * 1000, "at the end of its class, behind those not tried yet"
        assert store.history(job.id) == ['{"kind":"attempt"}']
    check_store(store.client, store.keys)


def test_an_ambiguous_failure_that_is_given_back_stays_ambiguous(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    job = probe(store)
    store.end(job, Verb.RETRY, "timeout", ambiguous=True, health=ServiceHealth.FAIL)
    record = store.record(job.id)
    assert (record.state, record.attempts, record.ambiguous) == (State.READY, 0, True)


def test_a_job_that_trackdesk_refuses_during_the_outage_is_buried_all_the_same(store: Store) -> None:
    fill(store, 7)
    jobs = store.claim().jobs
    fail(store, *jobs[:5])
    store.end(jobs[5], Verb.BURY, "type_not_found", health=ServiceHealth.OK)
    record = store.record(jobs[5].id)
    assert (record.state, record.attempts, record.reason) == (State.DEAD, 1, "type_not_found")
    store.end(jobs[6], Verb.DELIVER)
    assert store.record(jobs[6].id).state is State.DELIVERED
    state = store.tenant("acme")
    assert (state["hold"], state["streak"]) == ("outage", "0"), "only a probe closes it"
    assert state["window"] == "5", "and nothing grows before that"


def test_answers_in_the_batch_that_opens_it_do_not_let_the_new_window_grow(store: Store) -> None:
    store.client.hset(store.keys.tenant("acme"), "window", 15)
    fill(store, 30)
    store.client.hset(store.keys.tenant("acme"), "window", 15)
    jobs = store.claim().jobs
    assert len(jobs) == 15
    good = [Settlement(j.id, j.token, Verb.DELIVER, "paired", entry="{}", health=ServiceHealth.OK) for j in jobs[:10]]
    store.settle(*good, *(failed(job) for job in jobs[10:]))
    assert (store.tenant("acme")["hold"], store.tenant("acme")["window"]) == ("outage", "5")


def test_one_tenants_outage_is_not_anothers(store: Store) -> None:
    open_breaker(store)
    fill(store, 2, "other")
    assert [(job.tenant, job.probe) for job in store.claim().jobs] == [("other", False)] * 2


def test_an_open_breaker_sends_one_probe_at_a_time_at_intervals_that_double_to_the_cap(store: Store) -> None:
    open_breaker(store)
    tried = []
    for pause_s in (5, 10, 20, 40, 80, 160, 300, 300):
        assert next_probe_in(store) == pause_s * 1_000
        store.now_ms += pause_s * 1_000 - 1
        assert (store.claim().jobs, store.claim().wait_ms) == ([], 1)
        store.now_ms += 1
        job = probe(store)
        tried.append(job.id)
        assert (store.claim().jobs, store.claim().wait_ms) == ([], LEASE_MS)
        store.now_ms += 250
        assert store.claim().jobs == []
        fail(store, job)
        assert (store.claim().jobs, store.claim().wait_ms) == ([], min(60, 2 * pause_s) * 1_000)
    assert len(set(tried[:5])) == 5, "each probe tries another job: the fault may lie in one"
    assert {record.attempts for record in check_store(store.client, store.keys).records.values()} == {0, 1}


def test_a_probe_that_is_answered_closes_the_breaker_and_the_window_starts_small_again(store: Store) -> None:
    open_breaker(store, spare=40)
    store.now_ms += FIRST_MS
    store.end(probe(store), Verb.DELIVER)
    assert not store.tenant("acme").keys() & OPEN_STATE
    assert store.tenant("acme")["streak"] == "0"
    jobs = store.claim().jobs
    assert [job.probe for job in jobs] == [False] * 5
    for job in jobs:
        store.end(job, Verb.DELIVER)
    assert len(store.claim().jobs) == 6
    check_store(store.client, store.keys)


@pytest.mark.parametrize("verb", [Verb.BURY, Verb.RETRY])
def test_a_business_answer_to_a_probe_closes_the_breaker_too(store: Store, verb: Verb) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    job = probe(store)
    store.end(job, verb, "source_not_found", delay_ms=9_000, health=ServiceHealth.OK)
    assert "hold" not in store.tenant("acme")
    assert store.record(job.id).attempts == 1
    assert len(store.claim().jobs) == 5


def test_a_breaker_that_opens_again_starts_with_the_short_interval(store: Store) -> None:
    open_breaker(store, spare=30)
    for _ in range(3):
        store.now_ms += next_probe_in(store)
        fail(store, probe(store))
    store.now_ms += next_probe_in(store)
    store.end(probe(store), Verb.DELIVER)
    fail(store, *store.claim().jobs)
    assert (store.tenant("acme")["hold"], next_probe_in(store)) == ("outage", FIRST_MS)


def test_a_probe_that_is_lost_is_followed_by_another_when_its_lease_ends(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    lost = probe(store)
    store.now_ms += LEASE_MS - 1
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 1)
    store.now_ms += 1
    second = probe(store)
    assert second.id != lost.id
    assert store.reclaim().ready == 1
    assert store.settle(failed(lost)) == [False]
    store.end(second, Verb.DELIVER)
    assert "hold" not in store.tenant("acme")


def test_a_probe_that_comes_late_leaves_its_successors_time_alone_unless_it_brings_good_news(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    first = probe(store)
    store.now_ms += LEASE_MS
    second = probe(store)
    store.now_ms += 10
    fail(store, first)
    assert (store.claim().jobs, store.claim().wait_ms) == ([], LEASE_MS - 10), "still one at a time"
    store.now_ms += LEASE_MS - 10
    third = probe(store)
    store.end(second, Verb.DELIVER)
    assert "hold" not in store.tenant("acme")
    fail(store, third)
    assert not store.tenant("acme").keys() & OPEN_STATE, "one failure after the breaker closed"


def test_a_probe_that_was_never_sent_is_followed_by_another_at_once(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    job = probe(store)
    assert store.end(job, Verb.RELEASE, "-", entry="", spends_attempt=False)
    again = probe(store)
    assert again.id == job.id
    fail(store, again)
    assert next_probe_in(store) == 2 * FIRST_MS, "one interval for one probe that was sent"


def test_a_429_to_a_probe_freezes_and_keeps_the_interval(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    job = probe(store)
    store.end(job, Verb.RELEASE, "rate_limited", spends_attempt=False, effect=TenantEffectKind.FREEZE, effect_ms=3_000)
    assert next_probe_in(store) == FIRST_MS
    assert store.tenant("acme")["hold"] == "outage"


def test_a_held_tenant_is_paced_and_frozen_like_any_other(store: Store) -> None:
    open_breaker(store)
    store.effect("acme", TenantEffectKind.FREEZE, 9_000, "rate_limited")
    store.now_ms += FIRST_MS
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 4_000)
    store.now_ms += 4_000
    probe(store)


def test_a_probe_goes_out_even_if_the_window_is_full_of_requests_that_hang(store: Store) -> None:
    fill(store, 30)
    store.client.hset(store.keys.tenant("acme"), "window", 12)
    jobs = store.claim().jobs
    fail(store, *jobs[:5])
    store.now_ms += FIRST_MS
    assert len(jobs) - 5 > 5, "more in flight than the window now is"
    probe(store)


def test_a_pause_during_an_outage_stops_the_probes_and_resume_probes_at_once(store: Store) -> None:
    open_breaker(store)
    assert store.pause("acme")
    store.now_ms += 10 * LAST_MS
    assert (store.claim().jobs, store.claim().wait_ms) == ([], None)
    assert store.resume("acme")
    probe(store)


def test_the_time_of_a_probe_outlives_an_empty_queue(store: Store) -> None:
    fill(store, 5)
    for job in store.claim().jobs:
        store.end(job, Verb.BURY, "bad_endpoint")
    store.effect("acme", TenantEffectKind.HOLD, 20_000, "unauthorized")
    assert store.claim().wait_ms is None
    store.enqueue("acme/new")
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 20_000)
    store.now_ms += 20_000
    probe(store)


def test_a_hold_that_the_probe_meets_again_is_probed_at_growing_intervals(store: Store) -> None:
    fill(store, 9)
    job = store.claim_one()
    store.settle(refused(job))
    since = store.tenant("acme")["held_since"]
    for pause_s in (60, 120, 240, 300, 300):
        assert next_probe_in(store) == pause_s * 1_000
        store.now_ms += pause_s * 1_000
        store.settle(refused(probe(store)))
    assert store.tenant("acme")["held_since"] == since
    assert {record.attempts for record in check_store(store.client, store.keys).records.values()} == {0}


def test_answers_under_way_when_the_hold_began_change_nothing_of_it(store: Store) -> None:
    fill(store, 12)
    jobs = store.claim(10).jobs
    store.settle(refused(jobs[0]))
    before = store.tenant("acme")
    for job in jobs[1:8]:
        store.now_ms += 100
        store.settle(refused(job))
    assert store.tenant("acme") == before
    fail(store, jobs[8])
    assert store.tenant("acme")["hold"] == "unauthorized"
    assert store.record(jobs[8].id).attempts == 0, "time of a hold spends no attempts"


def test_an_outage_that_turns_out_to_be_a_wrong_key_becomes_a_hold_with_its_own_interval(store: Store) -> None:
    open_breaker(store)
    for _ in range(4):
        store.now_ms += next_probe_in(store)
        fail(store, probe(store))
    store.now_ms += next_probe_in(store)
    store.settle(refused(probe(store)))
    state = store.tenant("acme")
    assert (state["hold"], state["held_since"]) == ("unauthorized", str(START_MS))
    assert next_probe_in(store) == 60_000
    store.now_ms += 60_000
    fail(store, probe(store))
    assert (store.tenant("acme")["hold"], next_probe_in(store)) == ("unauthorized", 120_000)
    store.now_ms += 120_000
    store.end(probe(store), Verb.DELIVER)
    assert "hold" not in store.tenant("acme")


def test_an_answer_under_way_that_changes_the_hold_sends_no_second_probe_beside_the_first(store: Store) -> None:
    fill(store, 12)
    jobs = store.claim(6).jobs
    fail(store, *jobs[:5])
    store.now_ms += FIRST_MS
    assert store.claim(lease_ms=320_000).jobs[0].probe
    store.settle(refused(jobs[5]))
    assert store.tenant("acme")["hold"] == "unauthorized"
    store.now_ms += 319_999
    assert store.claim().jobs == []
    store.now_ms += 1
    probe(store)


def test_a_probe_answered_and_a_refusal_in_one_batch_leave_the_tenant_held(store: Store) -> None:
    fill(store, 12)
    jobs = store.claim(6).jobs
    fail(store, *jobs[:5])
    store.now_ms += FIRST_MS
    job = probe(store)
    good = Settlement(job.id, job.token, Verb.DELIVER, "paired", entry="{}", health=ServiceHealth.OK, probe=True)
    store.settle(good, refused(jobs[5]))
    assert (store.tenant("acme")["hold"], next_probe_in(store)) == ("unauthorized", 60_000)


def test_a_hold_waits_a_second_at_least(store: Store) -> None:
    fill(store, 9)
    store.settle(refused(store.claim_one(), 0))
    for pause_ms in (1_000, 2_000, 4_000):
        assert next_probe_in(store) == pause_ms
        store.now_ms += pause_ms
        store.settle(refused(probe(store), 0))


def test_an_interval_longer_than_the_breakers_longest_is_kept(store: Store) -> None:
    store.breaker = Breaker(last_probe_ms=10_000)
    fill(store, 9)
    store.settle(refused(store.claim_one()))
    store.now_ms += 60_000
    store.settle(refused(probe(store)))
    assert next_probe_in(store) == 60_000
