"""Hours of budget, outage and redrive, lived through in seconds."""

import itertools
from typing import Any

import pytest
import redis

from tests.support.store_check import check_store
from tests.support.virtual import World
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass
from trackdesk_worker.domain.limits import Limits

HOUR_MS = 3_600_000
LOCKOUT = {"rate_limit": {"per_s": 5, "lockout_s": 60}}

pytestmark = pytest.mark.parametrize("server", ["valkey"], indirect=True)


@pytest.fixture
def world(client: redis.Redis, keys: Keys) -> Any:
    names = itertools.count()
    return lambda **options: World(client, Keys(f"{keys.namespace}-{next(names)}"), **options)


def test_four_processes_use_the_whole_budget_and_are_never_locked_out(world: Any) -> None:
    run = world(simulator=LOCKOUT, processes=4, limits=Limits(rate_per_s=5))
    run.enqueue(*(f"o-{number}" for number in range(900)))
    run.run_for(150_000)

    tenant = run.engine.tenant("acme")
    assert tenant.stats.rate_limited == 0
    assert len(run.ledger) >= 0.95 * 5 * 150
    check_store(run.store)


@pytest.mark.parametrize("hours", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_an_outage_of_hours_spends_no_attempts_and_buries_nothing(world: Any, hours: int) -> None:
    run = world(simulator={"rate_limit": {"per_s": 5}}, processes=2, limits=Limits(rate_per_s=5))
    run.enqueue(*(f"early-{number}" for number in range(50)))
    run.run_until(lambda: len(run.ledger) == 50, at_most_ms=60_000)
    run.engine.configure(run.engine.config.patched({"outage": "hang"}))
    for hour in range(hours):
        for number in range(200):
            run.enqueue_later(run.now_ms + hour * HOUR_MS + number * 18_000, f"o-{hour}-{number}")
    sent_before = len(run.seen.claims)

    run.run_for(hours * HOUR_MS)

    during = run.seen.claims[sent_before:]
    book = run.book()
    assert book.jobs["dead"] == 0
    assert book.jobs["ready"] + book.jobs["in_flight"] + book.jobs["scheduled"] == 200 * hours
    spent = sum(record.attempts for record in check_store(run.store).records.values())
    assert spent <= run.breaker.failures, "only what opened the breaker is spent"
    assert len(during) < hours * 12 * 3 + 40, "probes, three at a time, and the few requests before the breaker opened"
    held = [(at, job) for at, job in during if job.probe]
    groups = sorted({at for at, _ in held})
    assert all(later - earlier >= run.timeout_ms for earlier, later in itertools.pairwise(groups))

    run.engine.configure(run.engine.config.patched({"outage": "off"}))
    back = run.now_ms
    run.run_until(run.finished, at_most_ms=HOUR_MS)

    assert run.book().jobs["delivered"] == 50 + 200 * hours
    assert run.engine.tenant("acme").stats.rate_limited == 0
    drained_s = (run.now_ms - back) / 1000
    assert drained_s <= 300 + 200 * hours / 5 * 1.1, "a probe's pause, and the backlog at the budget's pace"
    assert run.ledger.exactly_once([row.external_id for row in run.ledger]).ok
    check_store(run.store)


@pytest.mark.parametrize(
    ("number_of_jobs", "seconds"), [(1_000, 150), pytest.param(5_000, 600, marks=pytest.mark.slow)]
)
def test_a_redrive_of_thousands_of_jobs_leaves_live_sales_their_pace(
    world: Any, number_of_jobs: int, seconds: int
) -> None:
    types = {"sale": {"configured": False}}
    run = world(simulator={"types": types}, limits=Limits(rate_per_s=0))
    ids = [f"o-{number}" for number in range(number_of_jobs)]
    run.enqueue(*ids)
    run.run_until(lambda: run.book().jobs["dead"] == number_of_jobs, at_most_ms=HOUR_MS)
    assert run.engine.tenant("acme").stats.rate_limited == 0, "the pace starts out whole"
    run.engine.configure(run.engine.config.patched({**LOCKOUT, "types": {"sale": {"configured": True}}}))
    run.limits = Limits(rate_per_s=5)

    for start in range(0, len(ids), 200):
        run.store.redrive(*(f"acme/{external_id}" for external_id in ids[start : start + 200]))
    run.run_for(5_000)
    start = run.now_ms
    for number in range(seconds):
        run.enqueue_later(start + number * 1_000 + run.rng.randrange(1_000), f"live-{number}")
    run.seen.claims.clear()
    run.run_for(seconds * 1_000)

    waits = run.seen.waits_ms(JobClass.LIVE)
    assert len(waits) >= seconds - 2
    assert waits[len(waits) * 99 // 100] < 2_000
    redriven = sum(1 for _, job in run.seen.claims if job.job_class is JobClass.REDRIVE)
    assert redriven + len(waits) >= 0.95 * 5 * seconds, "what live leaves, the redrive uses"
    assert run.engine.tenant("acme").stats.rate_limited == 0


def test_after_a_429_nothing_is_sent_until_the_freeze_ends_and_the_pace_climbs_back(world: Any) -> None:
    run = world(simulator={"rate_limit": {"per_s": 3, "lockout_s": 60}}, limits=Limits(rate_per_s=5))
    run.enqueue(*(f"o-{number}" for number in range(2_000)))
    run.run_until(lambda: run.engine.tenant("acme").stats.rate_limited > 0, at_most_ms=60_000)
    first = run.now_ms
    run.run_for(58_000)
    assert len([at for at, _ in run.seen.claims if at > first + 500]) <= 2, "two jobs confirm it, then frozen"

    run.seen.claims.clear()
    run.run_for(40_000)
    early = len(run.seen.claims)
    assert 0 < early < 5 * 40 * 0.75, "slower than before the freeze"
    assert run.book().jobs["dead"] == 0
    assert max(job.attempts for _, job in run.seen.claims) == 1, "a 429 spends no attempt"


def test_a_meter_by_the_minute_is_not_run_into(world: Any) -> None:
    run = world(
        simulator={"rate_limit": {"kind": "minute", "per_s": 5}}, processes=4, limits=Limits(rate_per_s=5 * 0.98)
    )
    run.enqueue(*(f"o-{number}" for number in range(900)))
    run.run_for(150_000)

    assert run.engine.tenant("acme").stats.rate_limited == 0
    assert len(run.ledger) >= 0.95 * 5 * 150


def test_sick_tenants_do_not_slow_the_healthy(world: Any) -> None:
    """100 tenants at 5/s, ten of which hang until the timeout."""

    def delivered_by_healthy(sick: int) -> int:
        tenants = {f"t{number:03}": {"outage": "hang"} for number in range(sick)}
        run = world(simulator={"tenants": tenants}, processes=2, limits=Limits(rate_per_s=5), timeout_ms=3_000)
        for number in range(100):
            run.enqueue(*(f"{sick}-{number}-{i}" for i in range(40)), tenant=f"t{number:03}")
        run.run_for(6_000)
        return sum(int(row.tenant.removeprefix("t")) >= 10 for row in run.ledger.rows)

    without = delivered_by_healthy(0)
    run_with = delivered_by_healthy(10)
    assert run_with >= 0.9 * without, (run_with, without)


@pytest.mark.parametrize("outage", ["hang", "503"])
def test_a_probe_whose_process_dies_does_not_leave_the_breaker_open_for_ever(world: Any, outage: str) -> None:
    run = world(simulator={"outage": outage}, processes=2, limits=Limits(rate_per_s=5))
    run.enqueue(*(f"o-{number}" for number in range(20)))
    run.run_until(lambda: any(job.probe for _, job in run.seen.claims), at_most_ms=120_000)
    run.kill(0)
    run.kill(1)
    run.run_for(60_000)
    run.engine.configure(run.engine.config.patched({"outage": "off"}))
    run._alive = [True, True]
    run._in_flight = [0, 0]
    run.run_until(run.finished, at_most_ms=600_000)
    assert run.book().jobs["delivered"] == 20
    assert not run.store.client.hexists(run.store.keys.tenant("acme"), "hold")


FLAKY = {
    "error_rate": 0.15,
    "error_statuses": (503,),
    "commit_then_drop": 0.12,
    "drop_before_commit": 0.08,
    "html_200": 0.05,
}


def test_a_flaky_trackdesk_gets_every_sale_in_little_more_than_its_failures_cost(world: Any) -> None:
    for seed in range(2):
        run = world(simulator={"faults": FLAKY, "seed": seed}, processes=2, limits=Limits(rate_per_s=5), seed=seed)
        run.enqueue(*(f"o-{seed}-{number}" for number in range(250)))
        run.run_until(run.finished, at_most_ms=180_000)
        assert run.book().jobs["delivered"] == 250
        assert run.ledger.exactly_once([row.external_id for row in run.ledger]).ok


@pytest.mark.parametrize(("rate_per_s", "seconds"), [(5, 60), (50, 20)])
def test_at_half_failures_the_throughput_is_what_the_successes_allow(world: Any, rate_per_s: int, seconds: int) -> None:
    run = world(
        simulator={"faults": {"error_rate": 0.5}}, processes=2, limits=Limits(rate_per_s=rate_per_s), latency_ms=50
    )
    run.enqueue(*(f"o-{number}" for number in range(rate_per_s * seconds)))
    run.run_for(seconds * 1_000)
    assert len(run.ledger) >= 0.9 * 0.5 * rate_per_s * seconds


@pytest.mark.parametrize("rate_per_s", [1, 5, pytest.param(100, marks=pytest.mark.slow)])
def test_an_outage_is_noticed_within_seconds_and_so_is_its_end(world: Any, rate_per_s: int) -> None:
    run = world(processes=2, limits=Limits(rate_per_s=rate_per_s))
    run.enqueue(*(f"o-{number}" for number in range(rate_per_s * 60)))
    run.run_for(20_000)
    run.engine.configure(run.engine.config.patched({"outage": "503"}))
    run.seen.claims.clear()
    run.run_for(60_000)
    assert run.store.tenant("acme")["hold"] == "outage"
    assert len(run.seen.claims) <= 20 + rate_per_s / 5 + 5 * 3, "those that opened it, those under way, and the probes"
    records = check_store(run.store).records.values()
    assert sum(record.attempts for record in records if not record.state.terminal) <= 20
    run.engine.configure(run.engine.config.patched({"outage": "off"}))
    back = run.now_ms
    run.run_until(lambda: "hold" not in run.store.tenant("acme"), at_most_ms=80_000)
    assert run.now_ms - back <= 80_000
    run.run_until(run.finished, at_most_ms=120_000)
    assert run.book().jobs["delivered"] == rate_per_s * 60
