"""One sale cannot stop its tenant: refusals that one job explains, and those that the tenant explains."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.support.store_check import check_store
from tests.support.virtual import World
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State, external_id_of
from trackdesk_worker.domain.claim import ClaimedJob
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.trackdesk.exchange import Answer

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
REFUSALS = {
    401: Answer(401, "text/html", None, b"<html>no</html>"),
    403: Answer(403, "text/html", None, b"<html>blocked by rule 949110</html>"),
    429: Answer(429, "application/json", None, b'{"code":8,"message":"resource exhausted","details":[]}'),
}

pytestmark = pytest.mark.parametrize("server", ["valkey"], indirect=True)


@pytest.fixture
def world(client: redis.Redis, keys: Keys) -> Any:
    names = itertools.count()
    return lambda **options: World(
        client, Keys(f"{keys.namespace}-{next(names)}"), **{"limits": Limits(rate_per_s=5)} | options
    )


def poisoned(answer: Answer) -> Callable[[ClaimedJob], Answer | None]:
    """Answer so to every job whose name begins with "poison"."""
    return lambda job: answer if external_id_of(job.id).startswith("poison") else None


def sell_steadily(run: World, number: int, *, every_ms: int = 2_000, name: str = "good") -> None:
    """Enqueue good sales one after the other, from now on."""
    for place in range(number):
        run.enqueue_later(run.now_ms + place * every_ms, f"{name}-{place}")


def delays_ms(run: World, name: str = "good") -> list[int]:
    """From acceptance to the last request, of the good sales that are at Trackdesk, sorted."""
    last = {job.id: at - job.accepted_ms for at, job in run.seen.claims if external_id_of(job.id).startswith(name)}
    there = {f"acme/{row.external_id}" for row in run.ledger}
    return sorted(delay for identity, delay in last.items() if identity in there)


def held(run: World) -> str | None:
    """Return why the tenant is held, if it is."""
    return run.store.tenant("acme").get("hold")


@pytest.mark.parametrize("status", REFUSALS)
def test_five_poisoned_sales_do_not_stop_the_good_ones(world: Any, status: int) -> None:
    run = world(processes=2)
    run.instead = poisoned(REFUSALS[status])
    run.enqueue(*(f"poison-{number}" for number in range(5)))
    sell_steadily(run, 30)
    run.run_for(65_000)

    waits = delays_ms(run)
    assert len(waits) == 30
    assert waits[15] < 500, waits
    assert waits[-1] < 6_000, waits
    check_store(run.store)


@pytest.mark.parametrize("status", [403, 429])
def test_two_hundred_poisoned_sales_delay_good_ones_little_more_than_their_place_in_the_queue(
    world: Any, status: int
) -> None:
    run = world(processes=2)
    run.instead = poisoned(REFUSALS[status])
    run.enqueue(*(f"poison-{number}" for number in range(200)))
    sell_steadily(run, 120)
    run.run_for(5 * MINUTE_MS)

    waits = delays_ms(run)
    assert len(waits) == 120
    assert waits[60] < 5_000, waits
    assert waits[-1] < 2 * 200 / 5 * 1_000, waits


def test_good_sales_among_many_poisoned_ones_are_found(world: Any) -> None:
    run = world(processes=2)
    run.instead = poisoned(REFUSALS[403])
    names = [f"poison-{number}" for number in range(200)] + [f"good-{number}" for number in range(50)]
    run.rng.shuffle(names)
    run.enqueue(*names)
    run.run_until(lambda: run.ledger.count(tenant="acme") == 50, at_most_ms=8 * MINUTE_MS)


@pytest.mark.parametrize("status", [403, 429])
def test_a_sale_that_is_refused_while_others_succeed_becomes_a_dead_letter_of_its_own_reason(
    world: Any, status: int
) -> None:
    run = world(processes=2)
    run.instead = poisoned(REFUSALS[status])
    run.enqueue("poison-1", "poison-2")
    sell_steadily(run, 900)
    run.run_until(lambda: run.book().jobs["dead"] == 2, at_most_ms=30 * MINUTE_MS)

    for name in ("acme/poison-1", "acme/poison-2"):
        record = run.store.record(name)
        assert (record.state, record.reason) == (State.DEAD, "refused_alone")
        assert f'"status":{status}' in run.store.history(name)[-1], "the history says what refused it"
        assert not record.ambiguous
    assert len(delays_ms(run)) > 20
    check_store(run.store)


@pytest.mark.parametrize(("status", "why"), [(401, "unauthorized"), (403, "forbidden")])
def test_a_revoked_key_holds_the_tenant_at_once_spends_nothing_and_recovers_by_itself(
    world: Any, status: int, why: str
) -> None:
    run = world(processes=2)
    sell_steadily(run, 300, every_ms=400)
    run.run_for(20_000)
    run.instead = lambda _: REFUSALS[status]
    run.seen.claims.clear()
    run.run_until(lambda: held(run) == why, at_most_ms=6_000)
    run.run_for(HOUR_MS)

    assert held(run) == why
    assert len(run.seen.claims) < 6 * 5 + 10 + 3 * 3 * 12, "a few seconds, then probes"
    records = check_store(run.store).records.values()
    assert {record.attempts for record in records if not record.state.terminal} == {0}
    assert run.book().jobs["dead"] == 0

    run.instead = lambda _: None
    run.run_until(run.finished, at_most_ms=8 * MINUTE_MS)
    assert run.book().jobs["delivered"] == 300
    assert held(run) is None


def test_a_true_429_freezes_the_tenant_until_retry_after_and_spends_nothing(world: Any) -> None:
    run = world(processes=2, simulator={"rate_limit": {"per_s": 3, "lockout_s": 60, "retry_after": True}})
    run.enqueue(*(f"o-{number}" for number in range(300)))
    run.run_until(lambda: run.engine.tenant("acme").stats.rate_limited > 0, at_most_ms=60_000)
    first = run.now_ms
    run.run_for(57_000)
    asked = [at for at, _ in run.seen.claims if at > first + 500]
    assert len(asked) <= 2, "what confirms that it is the tenant, and nothing more until the lockout ends"
    run.run_until(run.finished, at_most_ms=HOUR_MS)
    assert run.book().jobs["delivered"] == 300
    assert max(job.attempts for _, job in run.seen.claims) == 1


def test_a_tight_limit_without_lockouts_buries_nothing(world: Any) -> None:
    run = world(processes=2, simulator={"rate_limit": {"per_s": 1}})
    run.enqueue(*(f"o-{number}" for number in range(200)))
    run.run_until(run.finished, at_most_ms=20 * MINUTE_MS)
    assert run.book().jobs["delivered"] == 200


@pytest.mark.parametrize("status", [403, 429])
def test_the_only_sale_of_a_tenant_waits_unspent_is_tried_now_and_then_and_does_not_delay_the_next(
    world: Any, status: int
) -> None:
    run = world()
    run.instead = poisoned(REFUSALS[status])
    run.enqueue("poison-1")
    run.run_for(HOUR_MS // 2)
    tries = len(run.seen.claims)
    assert 20 <= tries <= 80
    assert run.store.record("acme/poison-1").attempts == 0
    run.enqueue("good-1")
    run.run_until(lambda: run.ledger.count(tenant="acme") == 1, at_most_ms=3_000)


@pytest.mark.parametrize("status", REFUSALS)
def test_a_sale_that_is_only_refused_until_its_horizon_becomes_a_dead_letter(world: Any, status: int) -> None:
    run = world(policy=Policy(horizon_s=3_600))
    run.instead = lambda _: REFUSALS[status]
    run.enqueue("poison-1", "poison-2", "poison-3")
    run.run_until(lambda: run.book().jobs["dead"] == 3, at_most_ms=2 * HOUR_MS)
    assert run.now_ms - run.seen.claims[0][0] > HOUR_MS * 0.9
    reasons = {run.store.record(f"acme/poison-{number}").reason for number in (1, 2, 3)}
    assert reasons == {{401: "unauthorized", 403: "forbidden", 429: "rate_limited"}[status]}


def test_a_sale_that_waits_in_a_hold_is_cancelled(world: Any) -> None:
    run = world()
    run.instead = lambda _: REFUSALS[401]
    run.enqueue(*(f"o-{number}" for number in range(10)))
    run.run_for(5 * MINUTE_MS)
    assert held(run) == "unauthorized"
    assert {*run.store.cancel(*(f"acme/o-{number}" for number in range(10)))} == {"cancelled"}
    check_store(run.store)


def test_a_wrong_endpoint_holds_the_tenant_and_costs_few_sales(world: Any) -> None:
    run = world(processes=2)
    run.instead = lambda _: Answer(404, "text/html", None, b"<html>Not Found</html>")
    run.enqueue(*(f"o-{number}" for number in range(200)))
    run.run_for(HOUR_MS)
    assert held(run) == "bad_endpoint"
    assert run.book().jobs["dead"] <= 10, "those in flight when it began"
    run.instead = lambda _: None
    run.run_until(lambda: run.book().jobs["delivered"] >= 190, at_most_ms=10 * MINUTE_MS)


def test_an_outage_past_the_horizon_buries_what_is_tried(world: Any) -> None:
    run = world(simulator={"outage": "503"}, policy=Policy(horizon_s=3_600))
    run.enqueue("o-1", "o-2", "o-3", "o-4", "o-5", "o-6")
    run.run_until(lambda: run.book().jobs["dead"] == 6, at_most_ms=2 * HOUR_MS)
    assert run.now_ms - run.seen.claims[0][0] > HOUR_MS * 0.9
