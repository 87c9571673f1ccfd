"""Random interleavings of every transition, against a real server and a plain model side by side."""

import os
import uuid
from dataclasses import replace
from math import ceil

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.store import UNLIMITED, Item, Store
from tests.support.store_check import check_store, forget_store
from tests.support.store_model import TURN_SLACK_US, Model
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_producer.contract.runner import run
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Breaker, Limits
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.local.embedded import EmbeddedServer

TENANTS = ("a", "b", "c-d")
OWN = Limits(rate_per_s=10, burst=2, cap=4)
"""Of the last tenant; the others' limits differ from claim to claim."""
OWN_POLICY = Policy(max_attempts=3, horizon_s=600)
LONGER = int(os.environ.get("TRACKDESK_TEST_LONGER", "1"))
"""`make test-full` searches ten times as long."""
EXAMPLES = {"valkey": 100 * LONGER, "redis": 30 * LONGER}

BODIES = (
    '{"conversionTypeCode":"sale"}',
    '{"conversionTypeCode":"sale","cid":"c-1","customerId":"jane"}',
    '{"conversionTypeCode":"lead \u00e9","cid":"c-1"}',
)
ENTRIES = ('{"kind":"attempt"', '{"kind":"attempt","status":503', '{"kind":"attempt","status":null')
"""Without their time."""

tenants = st.sampled_from(TENANTS)
ids = st.builds("{}/{}".format, tenants, st.integers(0, 7))
amounts = st.one_of(
    st.sampled_from(
        ["-", "0", "0.000000001", "999999999999999.999999999", "999999999", "1000000000", "1000000000.000000001"]
    ),
    st.decimals(0, 10**9, places=2, allow_nan=False).map(str),
)
reasons = st.sampled_from(["server_error", "timeout", "type_not_found"])
refusals = st.sampled_from(["unauthorized", "forbidden", "bad_endpoint"])


@st.composite
def items(draw: st.DrawFn) -> tuple[Item, int]:
    """Draw a conversion and how far ahead it is due."""
    amount = draw(amounts)
    currency = "-" if amount == "-" else draw(st.sampled_from(["EUR", "JPY", "XXX"]))
    item = Item(
        draw(ids),
        amount,
        currency,
        fingerprint=draw(st.sampled_from(["fp-a", "fp-a", "fp-b"])),
        body=draw(st.sampled_from(BODIES)),
    )
    return item, draw(st.sampled_from([0, 0, 0, 700, 40_000]))


@st.composite
def endings(draw: st.DrawFn) -> tuple[int, Settlement]:
    """Draw how some claim ends, and which; an answer may say something of its tenant."""
    verb = draw(st.sampled_from(Verb))
    sent = verb is not Verb.RELEASE or draw(st.booleans())
    health = draw(st.sampled_from([ServiceHealth.OK, ServiceHealth.FAIL, ServiceHealth.FAIL, ServiceHealth.UNKNOWN]))
    if not sent or verb is Verb.DELIVER:
        health = ServiceHealth.OK if sent else ServiceHealth.UNKNOWN
    effect = draw(
        st.sampled_from([TenantEffectKind.NONE, TenantEffectKind.NONE, TenantEffectKind.FREEZE, TenantEffectKind.HOLD])
    )
    refusal = {TenantEffectKind.FREEZE: st.just("rate_limited"), TenantEffectKind.HOLD: refusals}.get(effect, reasons)
    return draw(st.integers(0, 30)), Settlement(
        "",
        "",
        verb,
        draw(refusal),
        delay_ms=draw(st.sampled_from([0, 500, 90_000, 10**12])),
        strikes=draw(st.integers(0, 3)),
        ambiguous=sent and draw(st.booleans()),
        refused=sent and draw(st.booleans()),
        spends_attempt=sent and draw(st.booleans()),
        entry=draw(st.sampled_from(ENTRIES)) if sent else "",
        health=health,
        effect=effect,
        effect_ms=draw(st.sampled_from([0, 600, 5_000, 90_000, 10**12])),
        past_horizon=draw(st.booleans()),
    )


limits = st.builds(
    Limits,
    rate_per_s=st.sampled_from([0, 0, 0, 2, 10]),
    burst=st.integers(1, 3),
    cap=st.sampled_from([1024, 1024, 3]),
)


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same to the store and to the model, and compares what they reply."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.store = Store(client, Keys(f"machine-{uuid.uuid4().hex[:12]}"), proven=False)
        self.store.breaker = Breaker(
            failures=2, ratio=0.75, volume=5, window_ms=4_000, first_probe_ms=1_000, last_probe_ms=3_000
        )
        self.model = Model(breaker=self.store.breaker)
        self.model.tenants[TENANTS[-1]].own = OWN
        self.model.tenants[TENANTS[-1]].policy = OWN_POLICY
        run(client, self.store.jobs.limits(TENANTS, {TENANTS[-1]: (OWN, OWN_POLICY)}))
        self.claims: list[ClaimedJob] = []
        self.sent_ms: list[int] = []
        """When the tenant with limits of its own sent."""
        self.ended: dict[str, bytes] = {}

    def teardown(self) -> None:
        forget_store(self.store)

    @initialize(batch=st.lists(items(), min_size=4, max_size=12))
    def begin(self, batch: list[tuple[Item, int]]) -> None:
        self.enqueue(batch)

    @rule(batch=st.lists(items(), min_size=1, max_size=6))
    def enqueue(self, batch: list[tuple[Item, int]]) -> None:
        due = [replace(i, due_ms=self.model.now_ms + wait if wait else 0) for i, wait in batch]
        assert self.store.enqueue(*due) == self.model.enqueue(due)

    @rule(wanted=st.sampled_from([0, 1, 2, 5, 20]), limits=limits, lease_ms=st.sampled_from([1_000, 30_000]))
    def claim(self, wanted: int, limits: Limits, lease_ms: int) -> None:
        for tenant in TENANTS:
            self.model.may_be_handed_out(tenant, limits)  # notes what they wait for
        got = self.store.claim(wanted, limits=limits, lease_ms=lease_ms)
        assert len(got.jobs) <= wanted
        self.model.claimed(got.jobs, limits, lease_ms)
        self.claims = [*self.claims, *got.jobs][-25:]
        self.sent_ms += [self.model.now_ms for job in got.jobs if job.tenant == TENANTS[-1]]
        waiting = self.model.ready_tenants()
        turns = check_store(self.store).turns
        if got.wait_ms is None:
            assert not waiting
        else:
            assert got.wait_ms == max(0, ceil((min(turns.values()) - self.model.now_us - 64) / 1000))
        if wanted and not got.jobs:
            # A tenant that still waits does so for a limit: `no_turn_is_later_than_its_limits` checks how long.
            assert all(turns[tenant] > self.model.now_us + 64 for tenant in waiting)

    @rule(batch=st.lists(endings(), min_size=1, max_size=5))
    def settle(self, batch: list[tuple[int, Settlement]]) -> None:
        if not self.claims:
            return
        # Newest first, so that small numbers are claims that may still hold; large ones are mostly stale.
        chosen = [(self.claims[-1 - place % len(self.claims)], s) for place, s in batch]
        noted = f',"at_ms":{self.model.now_ms}}}'
        settlements = [
            s._replace(id=c.id, token=c.token, probe=c.probe, entry=s.entry and s.entry + noted) for c, s in chosen
        ]
        assert self.store.settle(*settlements) == self.model.settle(settlements)

    @rule(ending=endings(), forged=ids)
    def settle_with_a_token_never_given(self, ending: tuple[int, Settlement], forged: str) -> None:
        never_given = ending[1]._replace(id=forged, token=str(self.model.last_token + 1))
        assert self.store.settle(never_given) == [False]

    @rule(most=st.sampled_from([1, 3, 500]))
    def promote(self, most: int) -> None:
        assert self.store.promote(most) == self.model.promote(most)

    @rule(most=st.sampled_from([1, 3, 500]), max_attempts=st.sampled_from([1, 2, 20]))
    def reclaim(self, most: int, max_attempts: int) -> None:
        got = self.store.reclaim(most, policy=Policy(max_attempts=max_attempts))
        assert (got.ready, got.buried) == self.model.reclaim(most, max_attempts)

    @rule(most=st.sampled_from([1, 3, 500]))
    def prune(self, most: int) -> None:
        assert self.store.prune(most) == self.model.prune(most)

    @rule(identity=ids)
    def cancel(self, identity: str) -> None:
        assert self.store.cancel(identity) == [self.model.cancel(identity)]

    @rule(picks=st.lists(st.integers(0, 9), min_size=1, max_size=4), anyone=ids, give_up=st.booleans())
    def redrive_or_discard(self, picks: list[int], anyone: str, give_up: bool) -> None:
        dead = self.model.in_order(State.DEAD)
        chosen = [anyone, *(dead[pick % len(dead)] for pick in picks if dead)]
        if give_up:
            assert self.store.discard(*chosen) == self.model.discard(chosen)
        else:
            assert self.store.redrive(*chosen) == self.model.redrive(chosen)

    @rule(pick=st.integers(0, 9), anyone=ids, to=items(), new_key=st.booleans())
    def edit(self, pick: int, anyone: str, to: tuple[Item, int], new_key: bool) -> None:
        dead = self.model.in_order(State.DEAD)
        item = replace(to[0], id=dead[pick % len(dead)] if dead else anyone)
        assert self.store.edit(item, new_key=new_key) == self.model.edit(item, new_key=new_key)

    @rule(tenant=tenants, again=st.booleans())
    def pause_or_resume(self, tenant: str, again: bool) -> None:
        if again:
            assert self.store.resume(tenant) == self.model.resume(tenant)
        else:
            assert self.store.pause(tenant) == self.model.pause(tenant)

    @rule(tenant=st.none() | tenants, forgotten_ms=st.sampled_from([None, 0, 5_000]))
    def restored(self, tenant: str | None, forgotten_ms: int | None) -> None:
        since_ms = None if forgotten_ms is None else self.model.now_ms - forgotten_ms
        known = {name.decode() for name in self.store.client.smembers(self.store.keys.tenants)}
        affected = known if tenant is None else {tenant}
        assert self.store.restored(tenant, since_ms=since_ms) == len(affected)
        for name in affected:
            self.model.tenants[name].doubt_ms = self.model.now_ms
            self.model.tenants[name].doubt_since_ms = since_ms

    @rule(lose=st.booleans())
    def wake(self, lose: bool) -> None:
        if lose:
            self.store.client.delete(self.store.keys.wakeups)
        assert self.store.wake() or not any(
            turn <= self.model.now_us for turn in check_store(self.store).turns.values()
        )

    @rule(ms=st.sampled_from([1, 100, 500, 5_000, 60_000]))
    def let_time_pass(self, ms: int) -> None:
        self.model.now_ms += ms
        self.store.now_ms = self.model.now_ms

    @rule(
        what=st.sampled_from([State.SCHEDULED, State.IN_FLIGHT, State.DELIVERED, None]),
        early=st.sampled_from([0, 0, 1]),
    )
    def let_time_pass_until_something_falls_due(self, what: State | None, early: int) -> None:
        """To the very ms at which a wait, a lease, a dedupe window or a limit ends, or to the one before."""
        match what:
            case State.SCHEDULED | State.IN_FLIGHT:
                due = [job.at for job in self.model.jobs.values() if job.state is what]
            case State.DELIVERED:
                due = [job.prune_due_ms for job in self.model.jobs.values() if job.state.terminal]
            case _:
                due = [
                    at // 1000
                    for tenant in self.model.tenants.values()
                    for at in (tenant.frozen_until, tenant.probe_at)
                ]
        ahead = [at - early - self.model.now_ms for at in due if at - early > self.model.now_ms]
        if ahead:
            self.let_time_pass(min(ahead))

    @invariant()
    def the_store_is_sound_and_equals_the_model(self) -> None:
        walk = check_store(self.store)
        assert walk.records.keys() == self.model.jobs.keys()
        for identity, record in walk.records.items():
            job = self.model.jobs[identity]
            if job.at < 0:
                assert 0 <= record.at - self.model.now_us < 1_000
                job.at = record.at
            assert not (wrong := job.disagreements(record)), f"{identity}: {wrong}"
        for tenant, counters in self.model.counters.items():
            said = walk.books[tenant].jobs
            assert {name: said[name] for name in counters} == counters
            assert walk.books[tenant].money.get("accepted", {}) == self.model.accepted_money[tenant]
        assert walk.paused == {name for name, tenant in self.model.tenants.items() if tenant.paused}

    @rule(lease_ms=st.sampled_from([1_000, 30_000]))
    def outlive_every_limit(self, lease_ms: int) -> None:
        """No tenant stays frozen, held, half-open or at its cap for ever: one with work is served in the end."""
        model = self.model
        over = [max(tenant.bound, tenant.frozen_until, tenant.probe_at) // 1000 for tenant in model.tenants.values()]
        over += [job.at for job in model.jobs.values() if job.state is State.IN_FLIGHT]
        self.let_time_pass(max([model.now_ms, *over]) - model.now_ms + 1_001)
        self.reclaim(500, 20)
        self.promote(500)
        waiting = model.ready_tenants()
        got = self.store.claim(20, limits=UNLIMITED, lease_ms=lease_ms)
        for tenant in TENANTS:
            model.may_be_handed_out(tenant, UNLIMITED)
        model.claimed(got.jobs, UNLIMITED, lease_ms)
        self.claims = [*self.claims, *got.jobs][-25:]
        self.sent_ms += [model.now_ms for job in got.jobs if job.tenant == TENANTS[-1]]
        assert {job.tenant for job in got.jobs} == waiting

    @invariant()
    def what_the_store_knows_of_a_tenant_equals_the_model(self) -> None:
        for name, tenant in self.model.tenants.items():
            assert not (wrong := tenant.disagreements(self.store.tenant(name))), f"{name}: {wrong}"

    @invariant()
    def in_no_interval_more_is_sent_than_the_budget_allows(self) -> None:
        for place, first_ms in enumerate(self.sent_ms):
            sent, ms = len(self.sent_ms) - place, self.sent_ms[-1] - first_ms
            assert sent <= OWN.burst + ms * OWN.rate_per_s / 1000, f"{sent} requests within {ms} ms"

    @invariant()
    def no_turn_is_later_than_its_limits(self) -> None:
        for tenant, at in self.store.client.zrange(self.store.keys.turn, 0, -1, withscores=True):
            latest = max(self.model.tenants[tenant.decode()].bound, self.model.now_us)
            assert at <= latest + TURN_SLACK_US, f"{tenant} waits {(at - latest) / 1000} ms for nothing"

    @invariant()
    def what_has_ended_never_changes_again(self) -> None:
        for identity, before in self.ended.items():
            if identity in self.model.jobs:  # else pruned by the last step, and free again from the next on
                assert self.store.client.get(self.store.keys.job(identity)) == before
        over = [identity for identity, job in self.model.jobs.items() if job.state.terminal]
        raw = self.store.client.mget([self.store.keys.job(identity) for identity in over]) if over else []
        self.ended = dict(zip(over, raw, strict=True))

    @invariant()
    def histories_hold_every_attempt(self) -> None:
        live = [identity for identity, job in self.model.jobs.items() if not job.state.terminal]
        with self.store.client.pipeline(transaction=False) as pipeline:
            for identity in live:
                pipeline.llen(self.store.keys.history(identity))
            lengths = pipeline.execute()
        assert dict(zip(live, lengths, strict=True)) == {i: self.model.jobs[i].history for i in live}


@pytest.mark.timeout(120 * LONGER)
def test_random_interleavings_keep_every_invariant(server: EmbeddedServer, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["server"]
    with redis.Redis(port=server.port) as client:
        run_state_machine_as_test(
            lambda: StoreMachine(client),  # type: ignore[arg-type,return-value,unused-ignore] # a factory is asked for
            settings=settings(
                max_examples=EXAMPLES[kind],
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
