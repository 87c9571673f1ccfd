"""Hypothesis chooses every step; after each the simulated Trackdesk's ledger judges what the product says of its sales.

The store's own state machine (`test_store_state_machine.py`) compares the scripts with a model of them. Here nothing of
the product is modelled: the judge knows only what requests recorded, and what nobody can know.
"""

import uuid
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.oracle.answers import FATES, REFUSED, UNPAIRED, UNSURE, Episode
from tests.support.oracle.clocked import ClockedRedis
from tests.support.oracle.judge import Life, Violation
from tests.support.oracle.world import LEASE_MS, Claim, Tenant, World
from tests.support.simulator import sale
from tests.support.store import START_MS
from tests.support.store_check import forget_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.delivery.attempt import Finished
from trackdesk_worker.local.embedded import EmbeddedServer

EXAMPLES = {"valkey": 40, "redis": 12}
"""About 30 seconds together on two busy cores; raise them to search longer."""
TENANTS = (
    Tenant("loose"),
    Tenant("network", network=True),
    Tenant("strict", strict=True, profile="all-400"),
    Tenant("types", network=True, strict=True, by_type=True, profile="empty-body"),
)
HOUR_MS = 3_600_000

tenants = st.sampled_from([tenant.name for tenant in TENANTS])
kinds = st.sampled_from(["sale", "purchase", "lead"])
sales = st.tuples(
    tenants,
    st.integers(0, 5),
    st.builds(
        lambda kind, amount, currency, origin: {
            "conversionTypeCode": kind,
            "amount": {"value": amount},
            "currency": {"code": currency},
            "revenueOriginId": origin,
        },
        kinds,
        st.sampled_from(["100.50", "5", "0.1"]),
        st.sampled_from(["EUR", "USD"]),
        st.sampled_from(["r-1", "r-2"]),
    ),
)
episodes = st.one_of(
    st.just(Episode()),
    st.builds(Episode, st.sampled_from(sorted(UNSURE)), st.booleans()),
    st.builds(Episode, st.sampled_from(sorted(UNSURE)), st.booleans(), st.sampled_from(FATES)),
    st.builds(Episode, st.sampled_from(sorted(REFUSED)), st.just(False)),
    st.builds(Episode, st.sampled_from(sorted(UNPAIRED))),
    st.builds(Episode, st.just(""), st.just(True), st.sampled_from(FATES)),
)
changes = st.one_of(
    st.tuples(st.just("amount.value"), st.sampled_from(["100.50", "7.25"])),
    st.tuples(st.just("currency.code"), st.sampled_from(["EUR", "USD"])),
    st.tuples(st.just("conversionTypeCode"), kinds),
    st.tuples(st.just("revenueOriginId"), st.sampled_from(["r-1", "r-2"])),
    st.tuples(st.just("customerId"), st.sampled_from(["jane", "joe"])),
)


class OracleMachine(RuleBasedStateMachine):
    """A world in which anything may come next."""

    def __init__(self, client: ClockedRedis) -> None:
        super().__init__()
        self.world = World(client, Keys(f"oracle-{uuid.uuid4().hex[:12]}"), TENANTS, workers=2)
        self.hanging: list[Claim | Finished] = []
        """Claims whose holder is slow: not sent yet, or sent and not settled."""
        self.dead: list[Life] = []

    def teardown(self) -> None:
        forget_store(self.world.store)

    @initialize(batch=st.lists(sales, min_size=2, max_size=6))
    def begin(self, batch: list[tuple[str, int, dict[str, Any]]]) -> None:
        self.enqueue(batch, 0)

    @rule(batch=st.lists(sales, min_size=1, max_size=4), wait_ms=st.sampled_from([0, 0, 0, 5_000]))
    def enqueue(self, batch: list[tuple[str, int, dict[str, Any]]], wait_ms: int) -> None:
        due_ms = self.world.store.now_ms + wait_ms if wait_ms else 0
        self.world.enqueue([(*self.sold(tenant, number, content), due_ms) for tenant, number, content in batch])

    @rule(tenant=tenants, number=st.integers(6, 7), content=sales)
    def another_system_sells_first(self, tenant: str, number: int, content: tuple[str, int, dict[str, Any]]) -> None:
        life, body = self.sold(tenant, number, content[2])
        if not life.stored:
            life.foreign = True
            self.world.sold_elsewhere(tenant, {**body, "amount": {"value": "77"}})
            self.world.enqueue([(life, body, 0)])

    def sold(self, tenant: str, number: int, content: dict[str, Any]) -> tuple[Life, dict[str, Any]]:
        body = sale(f"o-{number}", **content)
        return self.world.life_of(tenant, body), body

    @rule(worker=st.integers(0, 1), script=st.lists(episodes, min_size=1, max_size=6))
    def deliver(self, worker: int, script: list[Episode]) -> None:
        world = self.world
        ended = []
        for place, claim in enumerate(world.deliver([], worker, len(script))):
            episode = script[place]
            match episode.fate:
                case "lost unsent":
                    world.lose(claim, "its holder dies before it is sent")
                case "lost sent":
                    world.lose(world.attempt(claim, episode), "its holder dies before it settles")
                case "sent late":
                    world.lose(claim, "its holder hangs before it is sent")
                    self.hanging.append(claim)
                case "settled late":
                    self.hanging.append(world.attempt(claim, episode))
                case "settled twice":
                    ended.append(world.attempt(claim, episode))
                    self.hanging.append(ended[-1])
                case "released":
                    ended.append(world.give_back(claim))
                case _:
                    ended.append(world.attempt(claim, episode))
        world.settle(ended)

    @rule(pick=st.integers(0, 5), episode=episodes)
    def a_slow_holder_goes_on(self, pick: int, episode: Episode) -> None:
        if self.hanging:
            found = self.hanging.pop(pick % len(self.hanging))
            self.world.settle([self.world.attempt(found, episode) if isinstance(found, Claim) else found])

    @rule()
    def maintain(self) -> None:
        self.world.maintain()

    @rule()
    def prune(self) -> None:
        self.world.prune()

    @rule(pick=st.integers(0, 9))
    def cancel(self, pick: int) -> None:
        lives = list(self.world.judge.open.values())
        if lives:
            self.world.cancel(lives[pick % len(lives)])

    @rule(pick=st.integers(0, 9), discard=st.sampled_from([False, False, True]))
    def redrive_or_discard(self, pick: int, discard: bool) -> None:
        if self.dead:
            life = self.dead[pick % len(self.dead)]
            (self.world.discard if discard else self.world.redrive)([life])

    @rule(pick=st.integers(0, 9), change=changes)
    def edit(self, pick: int, change: tuple[str, str]) -> None:
        if self.dead:
            self.world.edit(self.dead[pick % len(self.dead)], dict([change]))

    @rule(tenant=tenants, again=st.booleans())
    def pause_or_resume(self, tenant: str, again: bool) -> None:
        (self.world.resume if again else self.world.pause)(tenant)

    @rule()
    def back_up(self) -> None:
        self.world.back_up()

    @rule()
    def restore(self) -> None:
        if self.world.restore():  # no worker outlives a restore: the runbook stops them first
            self.hanging = [one for one in self.hanging if isinstance(one, Finished)]

    @rule(ahead_ms=st.sampled_from([0, 2 * HOUR_MS, -2 * HOUR_MS, 60_000]))
    def the_stores_clock_jumps(self, ahead_ms: int) -> None:
        self.world.jump_store(ahead_ms)

    @rule(worker=st.integers(0, 1), ahead_ms=st.sampled_from([0, 24 * HOUR_MS, -700_000]))
    def a_workers_clock_jumps(self, worker: int, ahead_ms: int) -> None:
        self.world.worker_ahead_ms[worker] = ahead_ms

    @rule(ms=st.sampled_from([100, 3_000, LEASE_MS + 1, 600_000, 5 * HOUR_MS]))
    def let_time_pass(self, ms: int) -> None:
        self.world.move_to(self.world.now_ms + ms)

    @invariant()
    def what_is_said_of_every_sale_is_what_trackdesk_holds(self) -> None:
        try:
            records = self.world.check()
            self.world.check_store()
        except Violation as violation:
            if violation.life is not None:
                violation.add_note(violation.life.history(START_MS))
            raise
        judge = self.world.judge
        self.dead = [judge.lives[i] for i, record in records.items() if record and record.state is State.DEAD]


def test_the_ledger_confirms_whatever_the_product_says(server: EmbeddedServer, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["server"]
    with ClockedRedis(port=server.port) as client:
        search(client, EXAMPLES[kind])


def search(client: redis.Redis, examples: int) -> None:
    """Look for a history that ends in a violation."""
    assert isinstance(client, ClockedRedis)
    run_state_machine_as_test(
        lambda: OracleMachine(client),  # type: ignore[arg-type,return-value,unused-ignore] # a factory is asked for
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
