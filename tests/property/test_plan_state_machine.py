"""The life of plans: overlapping plans, deliveries, deaths, corrections and operators' words in any order."""

import json
import uuid
from collections import Counter

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.support.store import WINDOW_MS, Item, Store
from tests.support.store_check import check_store, forget_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store import plans
from trackdesk_worker.store.dead_letters.query import Search

EXAMPLES = {"valkey": 15, "redis": 5}
REASONS = ("server_error", "type_not_found")
WORDS = {
    "start": {"ready": "running"},
    "pause": {"running": "paused"},
    "resume": {"paused": "running"},
    "cancel": dict.fromkeys(("listing", "ready", "running", "paused"), "cancelled"),
}
names = st.sampled_from(["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2"])
picks = st.integers(0, 5)
far = st.integers(0, 2)


class PlanMachine(RuleBasedStateMachine):
    """Plans side by side over few jobs, so that they meet."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.store = Store(client, Keys(f"plans-{uuid.uuid4().hex[:12]}"))
        self.plans: dict[str, str] = {}
        """Plan → state as it must be; a plan that drives itself to its end may be ahead."""
        self.deaths: Counter[str] = Counter()
        self.edited = 0

    def teardown(self) -> None:
        forget_store(self.store)

    @initialize()
    def begin(self) -> None:
        for name in ("a/0", "a/1", "a/2", "b/0", "b/1"):
            self.sell(name)
        self.work(Verb.BURY, "server_error")

    @rule(name=names)
    def sell(self, name: str) -> None:
        self.store.enqueue(Item(name, "2.50", "EUR", body='{"conversionTypeCode":"sale"}'))

    @rule(verb=st.sampled_from([Verb.BURY, Verb.BURY, Verb.DELIVER]), reason=st.sampled_from(REASONS))
    def work(self, verb: Verb, reason: str) -> None:
        for job in self.store.claim(20).jobs:
            assert self.store.end(job, verb, reason)
            self.deaths[job.id] += verb is Verb.BURY

    @rule(
        reason=st.sampled_from([None, None, *REASONS]), act=st.sampled_from(["redrive", "redrive", "discard"]), far=far
    )
    def plan_over_a_filter(self, reason: str | None, act: str, far: int) -> None:
        wanted = Search(state=State.DEAD, reason=reason)
        self.open(act, {"search": plans.dump_search(wanted)}, [], far)

    @rule(chosen=st.lists(names, min_size=1, max_size=4, unique=True), far=far)
    def plan_over_names(self, chosen: list[str], far: int) -> None:
        self.open("redrive", {}, chosen, far)

    def open(self, act: str, more: dict[str, str], ids: list[str], far: int) -> None:
        """Open a plan, and bring it so far: listed, started."""
        plan = f"plan-{len(self.plans)}"
        fields = {"act": act, "window_ms": str(WINDOW_MS), "limit": "", "name": plan, "filter": "", **more}
        fields |= {"operator": "ann", "reason": "x"}
        assert plans.create(self.store, plan, fields, ids, entry="{}", now_ms=self.store.now_ms)
        self.plans[plan] = "listing"
        while far and self.plans[plan] == "listing":
            self.drive(0)
        if far > 1:
            self.say(0, "start")

    @rule(pick=picks, word=st.sampled_from([*WORDS, "start", "start"]))
    def say(self, pick: int, word: str) -> None:
        if not self.plans:
            return
        plan = list(self.plans)[-1 - pick % len(self.plans)]
        state = self.plans[plan]
        note, now_ms = '{"kind":"redrive"', self.store.now_ms
        reply = plans.transition(self.store, plan, word, entry="{}", note=note, now_ms=now_ms)
        if state in WORDS[word]:
            assert reply == "ok"
            self.plans[plan] = WORDS[word][state]
        else:
            assert reply == f"refused:{state}"

    @rule(pick=picks)
    def drive(self, pick: int) -> None:
        if not self.plans:
            return
        plan = list(self.plans)[-1 - pick % len(self.plans)]
        did = plans.step(self.store, plan, rate_us=0, now_ms=self.store.now_ms)
        before = self.plans[plan]
        assert did.state == before or (before, did.state) in {("listing", "ready"), ("running", "finished")}
        self.plans[plan] = did.state

    @rule(name=names)
    def correct(self, name: str) -> None:
        item = Item(name, "9.75", "EUR", fingerprint="fp-2", body='{"conversionTypeCode":"lead"}')
        self.edited += self.store.edit(item) == "ok"

    @rule(ms=st.sampled_from([1, 1, 1_000]))
    def let_time_pass(self, ms: int) -> None:
        self.store.now_ms += ms

    @invariant()
    def every_job_has_one_verdict_and_each_death_ends_once(self) -> None:
        client, keys = self.store.client, self.store.keys
        walk = check_store(self.store)
        done: Counter[str] = Counter()
        for plan, found in zip(self.plans, plans.read_fields(self.store, list(self.plans)), strict=True):
            assert found is not None
            fields, sums = found
            assert fields.state == self.plans[plan]
            verdicts = plans.verdicts_of(sums)
            pending = sum(
                client.llen(keys.plan_items(plan, f"pending:{tenant.decode()}"))
                for tenant in client.smembers(keys.plan_tenants(plan))
            )
            ended = fields.state in ("finished", "cancelled")
            assert sum(verdicts.values()) + (0 if ended else pending) == sums.jobs["listed"]
            assert verdicts.get("cancelled", 0) == (pending if fields.state == "cancelled" else 0)
            assert sums.jobs["done"] == verdicts.get("redriven", 0) + verdicts.get("discarded", 0)
            done.update({verdict: n for verdict, n in verdicts.items() if verdict in ("redriven", "discarded")})
        books = Counter[str]()
        for book in walk.books.values():
            books.update(book.jobs)
        assert books["redriven"] == done["redriven"] + self.edited
        assert books["discarded"] + books["pruned_discarded"] == done["discarded"]
        dead = len(walk.in_state(State.DEAD))
        assert sum(self.deaths.values()) == dead + done["redriven"] + done["discarded"] + self.edited

    @invariant()
    def what_was_done_waits_to_be_recorded(self) -> None:
        ends = [json.loads(raw).get("plan_ended") for raw in self.waiting()]
        finished = [plan for plan, state in self.plans.items() if state == "finished"]
        assert sorted(end for end in ends if end) == sorted(finished)

    def waiting(self) -> list[bytes]:
        """Return the acts that wait."""
        raw: list[bytes] = self.store.client.lrange(self.store.keys.audit_log_waiting, 0, -1)
        return raw


def test_plans_side_by_side_give_each_job_one_verdict(server: EmbeddedServer, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["server"]
    with redis.Redis(port=server.port) as client:
        run_state_machine_as_test(
            lambda: PlanMachine(client),  # type: ignore[arg-type,return-value,unused-ignore] # a factory is asked for
            settings=settings(
                max_examples=EXAMPLES[kind],
                stateful_step_count=30,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
