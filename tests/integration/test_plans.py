"""Plans over dead letters on real servers: made, frozen, started, paused, cancelled; every job gets a verdict."""

from decimal import Decimal
from typing import Any

import pytest
import redis

from tests.support.acting import act_now
from tests.support.reads import read_audit_log
from tests.support.shop import WINDOW_S, Shop, sale
from tests.support.store_check import check_store
from trackdesk_producer import EnqueueItem
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.limits import Shares
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit_log import Act, Operator
from trackdesk_worker.ops.dead_letters.search import SearchInvalid
from trackdesk_worker.ops.plans import Plan, PlanEmpty, PlanInvalid, PlanUnknown
from trackdesk_worker.store import plans as store
from trackdesk_worker.store.dead_letters import index_query, index_readers
from trackdesk_worker.store.dead_letters.query import Search
from trackdesk_worker.store.ledger import read_books, total

ANN = Operator("ann", "type created")
BEN = Operator("ben", "the same, seen elsewhere")
ALL = Search()


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


def make(shop: Shop, wanted: Any = ALL, *, act: Act = Act.REDRIVE, **options: Any) -> Plan:
    """Make a plan and freeze its list."""
    options = {"name": "INC-7", "operator": ANN, "dedupe_window_s": WINDOW_S, **options}
    plan = plans.create(shop, wanted, act=act, **options)
    return plans.finish_listing(shop, plan.id)


def finish(shop: Shop, plan: Plan, **options: Any) -> Plan:
    """Start a plan and watch it to its end."""
    plans.start(shop, plan.id, ANN, **options)
    return plans.follow(shop, plan.id, rate_limit=0)


def phases(shop: Shop) -> list[str]:
    return [entry["phase"] for entry in read_audit_log(shop)]


def test_a_preview_counts_and_forecasts_and_stores_nothing(shop: Shop) -> None:
    shop.bury("a1", "a2")
    shop.bury("a3", reason="server_error", amount={"value": "0.005"}, currency={"code": "USD"})
    options: dict[str, Any] = {"rate_limit": 2, "shares": Shares()}
    for wanted in (ALL, Search(min_amount=Decimal(0))):  # from the causes' books, and from the dead letters
        found = plans.preview(shop, wanted, **options)
        assert (found.jobs, found.complete) == (3, True)
        assert found.money == {"EUR": Decimal("201.00"), "USD": Decimal("0.005")}
        assert found.by_reason == {"type_not_found": 2, "server_error": 1}
        assert (found.seconds_at_budget, found.seconds_at_share) == (1.5, 15)
    assert plans.preview(shop, ALL, **{**options, "rate_limit": 0}).seconds_at_budget == 0
    shop.client.hset(shop.keys.tenant("acme"), "rate_us", 10_000_000)
    assert plans.preview(shop, ALL, **options).seconds_at_budget == 30
    assert plans.recent(shop) == []


def test_a_plan_moves_each_job_once_and_puts_every_step_on_record(shop: Shop) -> None:
    shop.bury(*[f"o-{n:03}" for n in range(450)])
    plan = make(shop, Search(reason="type_not_found", customer_id=None))
    assert (plan.state, plan.listed, plan.left, plan.name) == ("ready", 450, 450, "INC-7")
    assert plan.money_listed == {"EUR": Decimal("45225.00")}
    assert (plan.by_reason, plan.by_tenant) == ({"type_not_found": 450}, {"acme": 450})
    seen: list[int] = []
    plans.start(shop, plan.id, BEN)
    ended = plans.follow(shop, plan.id, rate_limit=0, progress=lambda p: seen.append(p.decided))
    assert (ended.state, ended.verdicts, ended.left) == ("finished", {"redriven": 450}, 0)
    assert ended.money_done == {"EUR": Decimal("45225.00")}
    assert seen == sorted(seen)
    book = total(read_books(shop).values())
    assert (book.jobs["ready"], book.jobs["dead"], book.residual_jobs) == (450, 0, 0)
    entry = shop.history("o-007")[-1]
    assert (entry["kind"], entry["operator"], entry["reason"], entry["operation"]) == (
        "redrive", BEN.name, BEN.reason, plan.id,
    )  # fmt: skip
    created, started, finished = read_audit_log(shop)
    assert (created["phase"], created["operator"], created["filter"]) == (
        "created", "ann", "state dead, reason type_not_found",
    )  # fmt: skip
    assert (started["phase"], started["operator"], started["count"]) == ("started", "ben", 450)
    assert (finished["phase"], finished["count"], finished["money"]) == ("finished", 450, {"EUR": "45225.00"})
    assert finished["verdicts"] == {"redriven": 450}
    assert {e["operation"] for e in (created, started, finished)} == {plan.id}
    check_store(shop)
    assert audit(shop).ok


def test_what_dies_after_the_plan_was_made_is_not_in_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LISTED_AT_ONCE", 1)
    shop.bury("o-1", "o-2")
    plan = plans.create(shop, ALL, act=Act.REDRIVE, name="INC", operator=ANN)
    assert (plan.state, plan.listed) == ("listing", 1)
    shop.bury("o-3", "o-4")
    assert plans.finish_listing(shop, plan.id).listed == 2


def test_verdicts_add_up_when_jobs_changed_since_the_list_was_frozen(shop: Shop) -> None:
    shop.bury("still", "moved", "gone", "again")
    plan = make(shop)
    act_now(shop, "redrive", ["acme/moved", "acme/again"])
    moved, again = sorted(shop.claim(), key=lambda job: job.id != "acme/moved")
    shop.settle([moved], Verb.DELIVER, "paired")
    shop.settle([again], Verb.BURY, "server_error")
    act_now(shop, "discard", ["acme/gone"], window_ms=1)
    assert shop.run(shop.jobs.prune(now_ms=9_999_999_999_999)) == 2
    ended = finish(shop, plan)
    assert ended.verdicts == {"redriven": 1, "skipped:died_again": 1, "skipped:unknown": 2}
    assert ended.decided == ended.listed == 4
    left_alone = plans.items(shop, plan.id, verdict="skipped").items
    assert {(item.external_id, item.verdict, item.state_now) for item in left_alone} == {
        ("moved", "skipped:unknown", None),
        ("gone", "skipped:unknown", None),
        ("again", "skipped:died_again", State.DEAD),
    }


def test_two_plans_over_the_same_jobs_redrive_each_once(shop: Shop) -> None:
    shop.bury("o-1", "o-2")
    first, second = make(shop), make(shop, operator=BEN)
    assert finish(shop, second).verdicts == {"redriven": 2}
    assert finish(shop, first).verdicts == {"skipped:ready": 2}
    assert [e["kind"] for e in shop.history("o-1")] == ["attempt", "redrive"]


def test_named_jobs_get_a_verdict_also_where_they_are_no_dead_letters(shop: Shop) -> None:
    shop.bury("o-1", "o-2")
    shop.sell("o-3")
    plan = make(shop, ["acme/o-1", "acme/o-3", "acme/o-1", "acme/none"], act=Act.DISCARD)
    assert (plan.listed, plan.left) == (3, 1)
    created = read_audit_log(shop)[0]
    assert created["jobs"][0] == {"tenant": "acme", "external_id": "o-1"}
    with pytest.raises(PlanInvalid, match="confirm the number of jobs: 3"):
        plans.start(shop, plan.id, ANN)
    with pytest.raises(PlanInvalid, match="has 3 jobs, not 2"):
        plans.start(shop, plan.id, ANN, confirm_count=2)
    ended = finish(shop, plan, confirm_count=3)
    assert ended.verdicts == {"discarded": 1, "refused:ready": 1, "refused:unknown": 1}
    assert ended.money_done == {"EUR": Decimal("100.50")}
    assert [shop.state(name) for name in ("o-1", "o-2", "o-3")] == ["discarded", "dead", "ready"]


def test_a_redrive_goes_only_a_little_ahead_of_each_tenants_budget(shop: Shop) -> None:
    shop.bury(*[f"a-{n:03}" for n in range(120)])
    shop.bury(*[f"b-{n:03}" for n in range(120)], tenant="bert")
    shop.client.hset(shop.keys.tenant("bert"), "rate_us", 500_000)  # 2 a second: 60 in 30 s
    plan = make(shop)
    plans.start(shop, plan.id, ANN)

    def ready() -> dict[str, int]:
        store.drive(shop, rate_us=2_000_000)
        return {t: shop.client.zcard(shop.keys.ready(t, "redrive")) for t in ("acme", "bert")}

    sent = 0

    def deliver() -> int:
        claims = shop.claim(10)
        shop.settle(claims, Verb.DELIVER, "paired")
        return len(claims)

    assert ready() == {"acme": 50, "bert": 60}
    sent += deliver()
    assert ready() == {"acme": 50, "bert": 60}
    paused = plans.pause(shop, plan.id, BEN)
    missing = deliver()
    assert sum(ready().values()) == 110 - missing, "a paused plan moves nothing"
    plans.resume(shop, plan.id, BEN)
    assert ready() == {"acme": 50, "bert": 60}
    cancelled = plans.cancel(shop, plan.id, BEN)
    sent += missing
    assert sent > 0
    assert cancelled.verdicts == {"redriven": 110 + sent, "cancelled": 130 - sent}
    assert (cancelled.left, cancelled.listed, paused.state) == (0, 240, "paused")
    assert sum(ready().values()) == 110
    assert phases(shop) == ["created", "started", "paused", "resumed", "cancelled"]
    waiting = plans.items(shop, plan.id, verdict="cancelled", limit=200)
    assert {item.state_now for item in waiting.items} == {State.DEAD}
    assert len(waiting.items) == 130 - sent
    check_store(shop)


def test_a_word_that_does_not_fit_the_plans_state_is_refused(shop: Shop) -> None:
    shop.bury("o-1")
    plan = make(shop)
    for word in (plans.pause, plans.resume):
        with pytest.raises(PlanInvalid, match="is ready: it cannot be"):
            word(shop, plan.id, ANN)
    finish(shop, plan)
    for word in (plans.start, plans.cancel):
        with pytest.raises(PlanInvalid, match="is finished"):
            word(shop, plan.id, ANN)
    with pytest.raises(PlanUnknown, match="plan list"):
        plans.read(shop, "plan-none")
    assert phases(shop) == ["created", "started", "finished"]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": " "}, PlanInvalid),
        ({"name": "x\ny"}, PlanInvalid),
        ({"name": "x" * 121}, PlanInvalid),
        ({"expected": 2}, PlanInvalid),
        ({"act": Act.EXPORT}, PlanInvalid),
        ({"wanted": [f"acme/{n}" for n in range(10_001)]}, PlanInvalid),
        ({"wanted": Search(tenant="nobody")}, PlanEmpty),
        ({"wanted": Search(state=State.READY)}, SearchInvalid),
    ],
)
def test_what_cannot_be_planned_is_refused_and_leaves_nothing(
    shop: Shop, options: dict[str, Any], error: type[Exception]
) -> None:
    shop.bury("o-1")
    with pytest.raises(error):
        make(shop, **options)
    assert plans.recent(shop) == []
    assert read_audit_log(shop) == []


def test_open_plans_are_bounded_and_those_nobody_starts_are_given_up(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "OPEN_AT_MOST", 2)
    shop.bury("o-1")
    first, second = make(shop), make(shop)
    with pytest.raises(PlanInvalid, match="2 plans are open"):
        make(shop)
    finish(shop, second)
    late = first.created_ms + store.WAITING_MS
    assert store.prune(shop, now_ms=late) == store.Forgotten(0, 1)
    store.record_acts(shop)
    assert plans.read(shop, first.id).verdicts == {"cancelled": 1}
    assert phases(shop) == ["created", "created", "started", "finished", "given_up"]
    assert store.prune(shop, now_ms=late + store.KEPT_MS) == store.Forgotten(2, 0)
    assert plans.recent(shop) == []
    assert not list(shop.client.scan_iter(match=f"{shop.keys.prefix}plan[_:]*"))


def test_plans_and_their_jobs_are_paged(shop: Shop) -> None:
    shop.bury(*[f"o-{n}" for n in range(5)])
    made = [make(shop, ["acme/o-0", "acme/none"]) for _ in range(3)]
    newest = plans.recent(shop, limit=2)
    rest = plans.recent(shop, limit=2, after=newest[-1].id)
    paged = [*newest, *rest]
    assert {plan.id for plan in paged} == {plan.id for plan in made}
    assert len(paged) == 3
    assert paged == sorted(paged, key=lambda plan: -plan.created_ms)  # those of one ms stand in any order
    plan = make(shop)
    finish(shop, made[0])
    seen, cursor = [], None
    while True:
        page = plans.items(shop, plan.id, limit=2, after=cursor)
        seen += [item.external_id for item in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == [f"o-{n}" for n in range(5)]
    (refused, redriven) = plans.items(shop, made[0].id).items
    assert (refused.verdict, redriven.verdict, redriven.state_now) == ("refused:unknown", "redriven", State.READY)
    refused_options: list[dict[str, Any]] = [{"verdict": "nonsense"}, {"after": "x"}]
    for bad in refused_options:
        with pytest.raises(PlanInvalid):
            plans.items(shop, plan.id, **bad)


def test_limit_takes_the_oldest(shop: Shop) -> None:
    for name in ("o-1", "o-2", "o-3"):
        shop.bury(name)
    plan = make(shop, limit=2)
    listed = {item.external_id for item in plans.items(shop, plan.id).items}
    assert listed == {"o-1", "o-2"}


def test_an_act_is_on_record_also_when_the_store_is_full(own_server: EmbeddedServer, keys: Keys) -> None:
    with redis.Redis(port=own_server.port) as client:
        shop = Shop(own_server, client, keys)
        shop.bury("o-1")
        client.config_set("maxmemory", 1)
        assert finish(shop, make(shop)).done == 1
        assert phases(shop) == ["created", "started", "finished"]


def test_the_end_of_a_plan_is_recorded_once_whoever_dies_in_between(shop: Shop) -> None:
    shop.bury("o-1")
    plan = make(shop)
    plans.start(shop, plan.id, ANN)
    store.step(shop, plan.id, rate_us=0)  # and its driver dies
    assert plans.read(shop, plan.id).state == "finished"
    assert phases(shop) == ["created", "started"]
    assert store.drive(shop, rate_us=0).moved == 0
    for _ in range(2):
        store.record_acts(shop)
        assert phases(shop) == ["created", "started", "finished"]


def test_personal_data_of_a_filter_is_not_on_record(shop: Shop) -> None:
    shop.bury("o-1", customerId="jane@example.com", cid="click-77")
    plan = make(shop, Search(customer_id="jane@example.com", cid="click-77"))
    assert plan.listed == 1
    kept = repr(shop.client.hgetall(shop.keys.plan(plan.id))) + repr(read_audit_log(shop))
    assert "jane" not in kept
    assert "click-77" not in kept


def poison(shop: Shop, plan: Plan, **fields: str) -> None:
    """Put a plan back into its listing, with fields that cannot be read."""
    shop.client.hset(shop.keys.plan(plan.id), mapping={"state": "listing", **fields})


def test_a_plan_that_cannot_be_listed_fails_with_its_reason_and_holds_up_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LISTED_AT_ONCE", 1)
    shop.bury("o-1", "o-2")
    broken = plans.create(shop, ALL, act=Act.REDRIVE, name="broken", operator=ANN)
    sound = plans.create(shop, ALL, act=Act.REDRIVE, name="sound", operator=ANN)
    poison(shop, broken, search='{"min_amount":"many"}')
    driven = store.drive(shop, rate_us=0)
    assert list(driven.problems) == [broken.id]
    store.record_acts(shop)
    failed = plans.read(shop, broken.id)
    assert (failed.state, failed.ended, failed.left) == ("failed", True, 0)
    assert "InvalidOperation" in (failed.problem or "")
    (entry,) = (e for e in read_audit_log(shop) if e["phase"] == "failed")
    assert (entry["operation"], entry["problem"]) == (broken.id, failed.problem)
    assert plans.read(shop, sound.id).state == "ready"
    assert store.drive(shop, rate_us=0).problems == {}, "a failed plan is not tried again"
    with pytest.raises(PlanInvalid, match="is failed"):
        plans.start(shop, broken.id, ANN)
    assert [shop.state(name) for name in ("o-1", "o-2")] == ["dead", "dead"]
    assert finish(shop, sound).verdicts == {"redriven": 2}


def test_the_command_that_makes_such_a_plan_reports_why_in_one_sentence(shop: Shop) -> None:
    shop.bury("o-1")
    plan = make(shop)
    poison(shop, plan, search="{", cursor="x")
    with pytest.raises(PlanInvalid, match=r"could not be made .*No sale was changed"):
        plans.finish_listing(shop, plan.id)


def test_a_running_plan_that_cannot_go_on_is_paused_with_its_reason_until_it_is_resumed(shop: Shop) -> None:
    shop.bury("o-1")
    plan = make(shop)
    plans.start(shop, plan.id, ANN)
    pending = shop.keys.plan_items(plan.id, "pending:acme")
    item = shop.client.lrange(pending, 0, 0)[0]
    shop.client.delete(pending)
    shop.client.set(pending, "no list")
    assert "WRONGTYPE" in store.drive(shop, rate_us=0).problems[plan.id]
    paused = plans.read(shop, plan.id)
    assert (paused.state, "WRONGTYPE" in (paused.problem or "")) == ("paused", True)
    shop.client.delete(pending)
    shop.client.rpush(pending, item)
    plans.resume(shop, plan.id, ANN)
    ended = plans.follow(shop, plan.id, rate_limit=0)
    assert (ended.verdicts, ended.problem) == ({"redriven": 1}, None)


def test_a_plan_with_a_field_of_a_newer_release_waits_for_a_worker_that_knows_it(shop: Shop) -> None:
    shop.bury("o-1")
    newer, known = make(shop), make(shop)
    poison(shop, newer, search='{"weekday":"monday"}', cursor="")
    driven = store.drive(shop, rate_us=0)
    assert (driven.moved, driven.problems) == (0, {})
    assert plans.read(shop, newer.id).state == "listing"
    assert finish(shop, known).verdicts == {"redriven": 1}


def test_a_plan_lists_more_causes_than_one_script_merges(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_readers, "SETS", 3)
    monkeypatch.setattr(store, "LISTED_AT_ONCE", 7)
    names = [f"o-{n:02}" for n in range(30)]
    for number, name in enumerate(names):
        shop.bury(name, conversionTypeCode=f"type-{number % 11}")
    plan = make(shop, Search(reason="type_not_found"))
    assert plan.listed == 30
    listed = plans.items(shop, plan.id).items
    assert sorted(item.external_id for item in listed) == names


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_more_than_four_thousand_causes_are_no_limit_for_a_plan(shop: Shop) -> None:
    tenants = 4_100
    receipts = shop.producer.enqueue_many(EnqueueItem(sale("o"), tenant=f"t{n}") for n in range(tenants))
    assert all(receipt.ok for receipt in receipts)
    while jobs := shop.claim(1000):
        shop.settle(jobs, Verb.BURY, "server_error")
    plan = make(shop, Search(reason="server_error"))
    assert (plan.state, plan.listed) == ("ready", tenants)


def test_listing_what_is_rare_goes_on_step_by_step(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LISTED_WITHIN_S", 0.0)
    shop.bury(*[f"o-{n}" for n in range(60)], amount={"value": "1"})
    shop.bury("rare", amount={"value": "1"}, cid="7f1c0a52-1111-4222-8333-444455556666")
    monkeypatch.setattr(index_readers, "FEW", 0)
    monkeypatch.setattr(index_query, "LEAST_BATCH", 5)
    monkeypatch.setattr(index_query, "BATCH", 5)
    plan = plans.create(
        shop, Search(min_amount=Decimal(1), conversion_type="sale"), act=Act.REDRIVE, name="INC",
        operator=ANN,
    )  # fmt: skip
    assert plan.state == "listing", "a step stops when its time is up"
    assert plans.finish_listing(shop, plan.id).listed == 61


def test_old_plans_at_the_head_do_not_keep_those_behind_from_being_forgotten_or_given_up(shop: Shop) -> None:
    shop.bury("o-1")
    paused = [make(shop) for _ in range(3)]
    for plan in paused:
        plans.start(shop, plan.id, ANN)
        shop.client.hset(shop.keys.plan(plan.id), mapping={"state": "paused"})
    ended, waiting = make(shop), make(shop)
    finish(shop, ended)
    late = waiting.created_ms + store.KEPT_MS + 1_000
    assert store.prune(shop, 2, now_ms=late) == store.Forgotten(0, 1, 2)
    assert store.prune(shop, 2, skip=2, now_ms=late) == store.Forgotten(1, 0, 3)
    assert store.prune(shop, 2, skip=3, now_ms=late) == store.Forgotten(0, 0, None)
    with pytest.raises(PlanUnknown):
        plans.read(shop, ended.id)
    assert plans.read(shop, waiting.id).state == "cancelled"
    assert [plans.read(shop, plan.id).state for plan in paused] == ["paused"] * 3
