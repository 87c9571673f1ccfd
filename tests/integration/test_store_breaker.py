"""Breaker and hold: what opens them, one probe at a time, and what closes them, at exact virtual times."""

import pytest
import redis

from tests.support.planted import plant
from tests.support.store import LEASE_MS, START_MS, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Breaker
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind

FIRST_MS, LAST_MS = 5_000, 300_000
OPEN_STATE = {"hold", "held_since", "probe_at", "probe_ms", "probe_token", "probing", "probed"}


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


def throttled(job: ClaimedJob) -> Settlement:
    """A 429 with a Retry-After of half a minute."""
    return refused(job)._replace(reason="rate_limited", effect=TenantEffectKind.FREEZE, effect_ms=30_000)


def refused(job: ClaimedJob, *, at_ms: int = START_MS) -> Settlement:
    """A 401: given back, and nothing said of Trackdesk's health."""
    return Settlement(
        job.id,
        job.token,
        Verb.RELEASE,
        "unauthorized",
        spends_attempt=False,
        entry=f'{{"kind":"attempt","at_ms":{at_ms}}}',
        probe=job.probe,
        effect=TenantEffectKind.HOLD,
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
    (job,) = store.claim(1).jobs
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
    check_store(store)


def test_one_proper_answer_between_restarts_the_count(store: Store) -> None:
    fill(store, 20)
    jobs = store.claim(9).jobs
    fail(store, *jobs[:4])
    store.end(jobs[4], Verb.DELIVER)
    fail(store, *jobs[5:])
    assert "hold" not in store.tenant("acme")
    fail(store, store.claim_one())
    assert store.tenant("acme")["hold"] == "outage"


def test_answers_that_say_nothing_of_trackdesk_neither_count_nor_restart_the_count(store: Store) -> None:
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


@pytest.mark.parametrize("failures", [2, 9])
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
    check_store(store)


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
    assert (state["hold"], state.get("streak")) == ("outage", None), "only a probe closes it"
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


def test_an_open_breaker_is_probed_at_intervals_that_double_to_the_cap(store: Store) -> None:
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
    assert {record.attempts for record in check_store(store).records.values()} == {0, 1}


def test_a_probe_that_is_answered_closes_the_breaker_and_the_window_starts_small_again(store: Store) -> None:
    open_breaker(store, spare=40)
    store.now_ms += FIRST_MS
    store.end(probe(store), Verb.DELIVER)
    assert not store.tenant("acme").keys() & OPEN_STATE
    assert "streak" not in store.tenant("acme")
    jobs = store.claim().jobs
    assert [job.probe for job in jobs] == [False] * 5
    for job in jobs:
        store.end(job, Verb.DELIVER)
    assert len(store.claim().jobs) == 6
    check_store(store)


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


def test_a_429_to_a_probe_of_an_outage_keeps_the_interval(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    job = probe(store)
    store.end(job, Verb.RELEASE, "rate_limited", spends_attempt=False, effect=TenantEffectKind.FREEZE, effect_ms=3_000)
    assert next_probe_in(store) == FIRST_MS
    assert store.tenant("acme")["hold"] == "outage"


def test_a_held_tenant_is_paced_and_frozen_like_any_other(store: Store) -> None:
    open_breaker(store)
    store.freeze("acme", 9_000)
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
    store.hold("acme", "unauthorized", 20_000)
    assert store.claim().wait_ms is None
    store.enqueue("acme/new")
    assert (store.claim().jobs, store.claim().wait_ms) == ([], 20_000)
    store.now_ms += 20_000
    probe(store)


def test_refusals_of_other_jobs_lengthen_the_interval_between_the_probes_of_a_hold(store: Store) -> None:
    fill(store, 20)
    store.settle(refused(store.claim_one()))
    since = store.tenant("acme")["held_since"]
    for pause_s in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        assert next_probe_in(store) == pause_s * 1_000
        store.now_ms += pause_s * 1_000
        store.settle(refused(probe(store)))
    assert (store.tenant("acme")["hold"], store.tenant("acme")["held_since"]) == ("unauthorized", since)
    records = check_store(store).records.values()
    assert {record.attempts for record in records} == {0}
    assert {record.strikes for record in records} == {0}


def test_a_hold_that_one_job_alone_explains_never_waits_longer_than_a_second(store: Store) -> None:
    store.enqueue("acme/only")
    for _ in range(20):
        store.settle(refused(store.claim_one()))
        assert next_probe_in(store) == 1_000
        store.now_ms += 1_000
        store.promote()
    record = store.record("acme/only")
    assert (record.attempts, record.strikes, record.reason) == (0, 0, "unauthorized")


def test_a_refusal_while_others_are_answered_holds_nobody(store: Store) -> None:
    fill(store, 12)
    jobs = store.claim(10).jobs
    store.end(jobs[0], Verb.DELIVER)
    store.settle(*(refused(job) for job in jobs[1:9]))
    assert "hold" not in store.tenant("acme")
    store.now_ms += 3_000
    store.settle(refused(jobs[9]))
    assert store.tenant("acme")["hold"] == "unauthorized", "nobody was answered for three seconds"


def test_a_job_that_is_refused_again_while_others_succeed_counts_strikes_and_dies_of_them(store: Store) -> None:
    fill(store, 60)
    store.end(store.claim_one(), Verb.DELIVER)
    poison = store.claim_one()
    for strikes in range(9):
        store.settle(refused(poison, at_ms=store.now_ms))
        record = store.record(poison.id)
        assert (record.strikes, record.attempts) == (strikes, 0)
        assert "hold" not in store.tenant("acme")
        if strikes < 8:
            store.now_ms += 1_000
            for _ in range(4):
                store.end(store.claim_one(), Verb.DELIVER)
            store.promote()
            poison = next(job for job in store.claim(40).jobs if job.id == poison.id)
            for job in store.claim(100).jobs:
                store.end(job, Verb.RELEASE, "-", entry="", spends_attempt=False)
            store.enqueue(*(f"acme/more-{strikes}-{n}" for n in range(50)))
    assert (record.state, record.reason) == (State.DEAD, "refused_alone")
    check_store(store)


def test_answers_under_way_when_the_hold_began_change_nothing_of_it(store: Store) -> None:
    fill(store, 12)
    jobs = store.claim(10).jobs
    store.settle(refused(jobs[0]))
    before = store.tenant("acme") | {"answers": ""}
    for job in jobs[1:8]:
        store.now_ms += 100
        store.settle(refused(job))
    assert store.tenant("acme") | {"answers": ""} == before
    fail(store, jobs[8])
    assert store.tenant("acme")["hold"] == "unauthorized"
    assert store.record(jobs[8].id).attempts == 0, "time of a hold spends no attempts"


def test_an_outage_that_turns_out_to_be_a_wrong_key_becomes_a_hold_once_a_second_job_confirms_it(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    store.settle(refused(probe(store)))
    assert (store.tenant("acme")["hold"], next_probe_in(store)) == ("outage", FIRST_MS)
    store.now_ms += FIRST_MS
    store.settle(refused(probe(store)))
    state = store.tenant("acme")
    assert (state["hold"], state["held_since"]) == ("unauthorized", str(START_MS))
    assert next_probe_in(store) == 1_000
    store.now_ms += 1_000
    fail(store, probe(store))
    assert (store.tenant("acme")["hold"], next_probe_in(store)) == ("unauthorized", 2_000)
    store.now_ms += 2_000
    store.end(probe(store), Verb.DELIVER)
    assert "hold" not in store.tenant("acme")


def test_a_probe_answered_and_a_late_refusal_in_one_batch_leave_the_tenant_free(store: Store) -> None:
    fill(store, 12)
    jobs = store.claim(6).jobs
    fail(store, *jobs[:5])
    store.now_ms += FIRST_MS
    job = probe(store)
    good = Settlement(job.id, job.token, Verb.DELIVER, "paired", entry="{}", health=ServiceHealth.OK, probe=True)
    store.settle(good, refused(jobs[5]))
    assert "hold" not in store.tenant("acme")


def test_a_throttled_job_pauses_its_tenant_and_a_third_one_freezes_it(store: Store) -> None:
    fill(store, 9)
    for pause_ms in (1_000, 2_000):
        store.settle(throttled(store.claim_one()))
        assert (store.tenant("acme")["hold"], next_probe_in(store)) == ("rate_limited", pause_ms)
        assert "frozen_until" not in store.tenant("acme")
        store.now_ms += pause_ms
        jobs = store.claim().jobs
        assert len(jobs) == 1, "one probe of a throttled tenant at a time"
        store.end(jobs[0], Verb.RELEASE, "-", entry="", spends_attempt=False)
    store.settle(throttled(store.claim_one()))
    state = store.tenant("acme")
    assert (state["frozen_until"], state["factor"]) == (str(store.now_ms + 30_000), "0.5")
    assert not state.keys() & OPEN_STATE


def test_a_throttled_job_of_which_a_probe_tells_otherwise_costs_a_second(store: Store) -> None:
    fill(store, 9)
    store.settle(throttled(store.claim_one()))
    store.now_ms += 1_000
    store.end(probe(store), Verb.DELIVER)
    assert not store.tenant("acme").keys() & {*OPEN_STATE, "frozen_until", "factor"}
    assert len(store.claim().jobs) == 5


def test_a_job_past_its_horizon_is_buried_even_in_an_outage(store: Store) -> None:
    open_breaker(store)
    store.now_ms += FIRST_MS
    job = probe(store)
    store.settle(failed(job, Verb.BURY)._replace(past_horizon=True))
    assert store.record(job.id).state is State.DEAD


# By ratio


def test_failures_of_one_job_never_open_the_breaker(store: Store) -> None:
    store.enqueue("acme/only")
    for _ in range(30):
        fail(store, store.claim_one())
        store.now_ms += 2_000
        store.promote()
    assert "hold" not in store.tenant("acme")
    assert store.record("acme/only").attempts == 30


@pytest.mark.parametrize(("good_of_ten", "opens"), [(5, False), (2, False), (1, True)])
def test_with_many_requests_their_ratio_counts(store: Store, good_of_ten: int, opens: bool) -> None:
    store.breaker = Breaker(failures=19)
    fill(store, 60)
    for place, job in enumerate(store.claim(60).jobs):
        if place % 10 < good_of_ten:
            store.end(job, Verb.DELIVER)
        else:
            fail(store, job)
    assert ("hold" in store.tenant("acme")) == opens


def test_many_good_answers_do_not_hide_an_outage_that_begins(store: Store) -> None:
    fill(store, 120)
    jobs = store.claim(120).jobs
    for job in jobs[:100]:
        store.end(job, Verb.DELIVER)
    fail(store, *jobs[100:119])
    assert "hold" not in store.tenant("acme")
    fail(store, jobs[119])
    assert store.tenant("acme")["hold"] == "outage"


def test_what_failed_long_ago_no_longer_counts(store: Store) -> None:
    fill(store, 60)
    jobs = store.claim(60, lease_ms=200_000).jobs
    for job in jobs[:4]:
        fail(store, job)
    store.end(jobs[4], Verb.DELIVER)
    store.now_ms += 20_000
    fail(store, *jobs[5:9])
    assert "hold" not in store.tenant("acme")


def test_half_open_sends_several_probes_and_the_first_answer_closes(store: Store) -> None:
    open_breaker(store, spare=20)
    store.now_ms += FIRST_MS
    jobs = store.claim().jobs
    assert [job.probe for job in jobs] == [True] * 3
    fail(store, jobs[0])
    assert store.claim().jobs == [], "the others are under way"
    store.end(jobs[1], Verb.DELIVER)
    assert not store.tenant("acme").keys() & OPEN_STATE
    fail(store, jobs[2])
    assert "hold" not in store.tenant("acme")
    assert len(store.claim().jobs) == 5, "and the window starts small again"


def test_when_all_probes_fail_the_interval_doubles_once(store: Store) -> None:
    open_breaker(store, spare=20)
    store.now_ms += FIRST_MS
    fail(store, *store.claim().jobs)
    assert next_probe_in(store) == 2 * FIRST_MS


PLANTED = {
    "one job's failures open the breaker": test_failures_of_one_job_never_open_the_breaker,
    "the breaker counts in a row only": test_many_good_answers_do_not_hide_an_outage_that_begins,
    "no job is ever alone": test_a_job_that_is_refused_again_while_others_succeed_counts_strikes_and_dies_of_them,
    "one throttled job freezes its tenant": test_a_throttled_job_pauses_its_tenant_and_a_third_one_freezes_it,
    "no horizon in an outage": test_a_job_past_its_horizon_is_buried_even_in_an_outage,
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(store: Store, bug: str) -> None:
    take_out = plant(bug)
    try:
        with pytest.raises((AssertionError, KeyError, ValueError)):
            PLANTED[bug](store)
    finally:
        take_out()
