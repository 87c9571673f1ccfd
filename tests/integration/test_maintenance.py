"""The background duties beside each other: what one meets with holds up no other, and each drains what is due."""

from collections.abc import Callable
from typing import ClassVar

import pytest
import redis

from tests.support.duties import Clock, Duties
from tests.support.store import START_MS, WINDOW_MS, Item, Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.maintenance.duty import BATCH, Duty, DutyContext, Turn
from trackdesk_worker.maintenance.loop import AWAY_S, RETRY_S, Maintenance
from trackdesk_worker.maintenance.prune import Prune
from trackdesk_worker.store.errors import store_away
from trackdesk_worker.telemetry.labels import DutyName


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


@pytest.fixture
def duties(store: Store) -> Duties:
    return Duties(store)


class Scripted(Duty):
    """A duty that does what the test says, and counts its runs."""

    name: ClassVar = DutyName.PLANS

    def __init__(self, context: DutyContext, act: Callable[[], None] = lambda: None) -> None:
        super().__init__(context)
        self.act = act
        self.runs = 0

    def run_once(self, turn: Turn) -> None:
        self.runs += 1
        self.act()


def rounds(duties: Duties, *scripted: Scripted) -> tuple[Maintenance, Clock]:
    clock = Clock()
    made = Maintenance(
        scripted, sign_off=lambda: None, metrics=duties.metrics, log=duties.log, clock=clock
    )  # fmt: skip
    return made, clock


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a bug"), KeyError("field"), OSError("disk"), redis.ResponseError("WRONGTYPE Operation against")],
    ids=lambda error: type(error).__name__,
)
def test_a_duty_that_fails_is_counted_and_rests_longer_each_time_while_the_others_go_on(
    duties: Duties, error: Exception
) -> None:
    failing, other = Scripted(duties.context, raising(error)), Scripted(duties.context)
    maintenance, clock = rounds(duties, failing, other)
    first, longest = RETRY_S
    for n in range(12):
        maintenance.run_once()
        assert (failing.runs, other.runs) == (n + 1, 2 * n + 1)
        clock.move(min(longest, first * 2**n) - 0.01)
        maintenance.run_once()
        assert failing.runs == n + 1, "it rests"
        clock.move(0.01)
    assert duties.counted("trackdesk_duty_failures_total", duty="plans") == 12
    (logged, *_) = duties.events("maintenance.duty_failed")
    assert (logged["duty"], logged["again_in_s"], logged["exc_info"]) == ("plans", first, True)

    failing.act = lambda: None
    maintenance.run_once()
    maintenance.run_once()
    assert failing.runs == 14, "one that works again is back at once"


@pytest.mark.parametrize(
    "error",
    [redis.ConnectionError("away"), redis.TimeoutError("silent"), redis.exceptions.ReadOnlyError("a replica")],
    ids=lambda error: type(error).__name__,
)
def test_a_store_that_is_away_ends_the_round_but_one_silent_call_starves_no_other_duty(
    duties: Duties, error: Exception
) -> None:
    failing, other = Scripted(duties.context, raising(error)), Scripted(duties.context)
    maintenance, clock = rounds(duties, failing, other)
    with pytest.raises(type(error)):
        maintenance.run_once()
    assert (failing.runs, other.runs) == (1, 0)
    maintenance.run_once()
    assert (failing.runs, other.runs) == (1, 1)
    clock.move(AWAY_S)
    with pytest.raises(type(error)):
        maintenance.run_once()
    assert duties.counted("trackdesk_duty_failures_total", duty="plans") == 0, "the store's trouble is not the duty's"


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (redis.exceptions.BusyLoadingError("x"), True),
        (redis.exceptions.OutOfMemoryError("x"), True),
        (redis.exceptions.MasterDownError("x"), True),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), True),
        (redis.ResponseError("BUSY Redis is busy running a script"), True),
        (redis.ResponseError("WRONGTYPE Operation against a key"), False),
        (redis.ResponseError("user_script:12: attempt to index nil"), False),
        (redis.exceptions.NoPermissionError("no"), False),
        (ValueError("x"), False),
    ],
)
def test_what_counts_as_a_store_that_is_away(error: Exception, away: bool) -> None:
    assert store_away(error) is away


def poison_the_plans(store: Store) -> None:
    """An open plan whose record is no hash."""
    store.client.zadd(store.keys.plans_open, {"plan-x": 1})
    store.client.set(store.keys.plan("plan-x"), "no hash")


def poison_the_audit_log(store: Store) -> None:
    store.client.rpush(store.keys.audit_log_waiting, "{no json")


def poison_the_tombstones(store: Store) -> None:
    store.client.zadd(store.keys.tombstones, {"1": 1})
    store.client.set(store.keys.tombstone_bucket("1"), "no list")


def poison_the_newer(store: Store) -> None:
    store.client.set(store.keys.newer, "no set")


@pytest.mark.parametrize("poison", [poison_the_plans, poison_the_audit_log, poison_the_tombstones, poison_the_newer])
def test_damage_that_one_duty_meets_leaves_every_other_duty_at_work(
    store: Store, duties: Duties, poison: Callable[[Store], None]
) -> None:
    store.enqueue(Item("acme/due", due_ms=START_MS + 1))
    poison(store)
    for _ in range(3):
        duties.run_once()
    assert store.record("acme/due").state is State.READY
    assert duties.woken > 0
    assert store.client.zcard(store.keys.workers) == 1
    failures = {name: duties.counted("trackdesk_duty_failures_total", duty=name) for name in DutyName}
    assert sum(failures.values()) <= 1, failures
    logged = [*duties.events("maintenance.plan_stopped"), *duties.events("maintenance.acts_set_aside")]
    assert sum(failures.values()) + len(logged) == 1, "reported once"


def test_pruning_drains_what_is_due_within_its_time_and_goes_on_in_the_next_round(store: Store, duties: Duties) -> None:
    sales = 3 * BATCH + 7
    store.enqueue(*(f"acme/{n}" for n in range(sales)))
    for job in store.claim(sales).jobs:
        store.end(job, Verb.DELIVER)
    # Its window is over by the store's own clock: the test's clock is long past.
    assert store.now_ms + WINDOW_MS < 1_800_000_000_000
    prune = Prune(duties.context)
    prune.run_once(Turn(0.0))
    assert duties.counted("trackdesk_maintenance_total", kind="pruned") == BATCH
    prune.run_once(Turn(30.0))
    assert duties.counted("trackdesk_maintenance_total", kind="pruned") == sales


def test_a_duty_that_drains_shows_signs_of_life(store: Store) -> None:
    beats: list[int] = []
    turn = Turn(30.0, beat=lambda: beats.append(1))
    left = iter([BATCH, BATCH, BATCH, 3])
    assert turn.drain(lambda: next(left)) == 3 * BATCH + 3
    assert len(beats) == 3


def test_silent_workers_are_forgotten_by_the_stores_clock(store: Store, duties: Duties) -> None:
    now_s, _ = store.client.time()
    store.client.zadd(store.keys.workers, {"old": (now_s - 90_000) * 1000, "young": (now_s - 80_000) * 1000})
    duties.run_once()
    assert store.client.zrange(store.keys.workers, 0, -1) == [b"young", b"w"]
