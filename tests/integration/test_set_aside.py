"""What cannot be read among the operators' acts and plans is set aside, named by the audit, and stops nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.support.reads import read_audit_log
from tests.support.shop import WINDOW_S, Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit.discrepancies import DiscrepancyKind
from trackdesk_worker.ops.audit_log import Act, Operator
from trackdesk_worker.ops.plans import Plan, PlanInvalid, PlanUnreadable
from trackdesk_worker.store import plans as store
from trackdesk_worker.store.dead_letters.query import Search

ANN = Operator("ann", "type created")


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


def redrive_all(shop: Shop) -> Plan:
    """Make a plan, start it, watch it to its end: three acts go on record."""
    made = plans.create(shop, Search(), act=Act.REDRIVE, name="INC-7", operator=ANN, dedupe_window_s=WINDOW_S)
    plan = plans.finish_listing(shop, made.id)
    plans.start(shop, plan.id, ANN)
    return plans.follow(shop, plan.id, rate_limit=0)


def ended(shop: Shop, plan_id: str, **stored: Any) -> bytes:
    """An act that reports the end of a plan which is stored like this."""
    if stored:
        shop.client.hset(shop.keys.plan(plan_id), mapping=stored)
    else:
        shop.client.set(shop.keys.plan(plan_id), "no hash")
    return f'{{"plan_ended":"{plan_id}"}}'.encode()


UNREADABLE: dict[str, Callable[[Shop], bytes]] = {
    "no JSON": lambda _: b"{no json",
    "no text": lambda _: b'"\xff"',
    "no object": lambda _: b"[1,2]",
    "nested without end": lambda _: b"[" * 100_000,
    "the end of a plan that is no hash": lambda shop: ended(shop, "plan-x"),
    "the end of a plan without its act": lambda shop: ended(shop, "plan-x", state="finished", ended_ms="1"),
    "the end of a plan that ended at a word": lambda shop: ended(shop, "plan-x", act="redrive", ended_ms="soon"),
}


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
def test_an_act_that_cannot_be_read_is_set_aside_named_and_the_acts_behind_it_go_on_record(
    shop: Shop, make: Callable[[Shop], bytes]
) -> None:
    shop.bury("o-1")
    act = make(shop)
    shop.client.rpush(shop.keys.audit_log_waiting, act)
    plan = redrive_all(shop)
    assert plan.verdicts == {"redriven": 1}
    assert [entry["phase"] for entry in read_audit_log(shop)] == ["created", "started", "finished"]
    assert shop.client.llen(shop.keys.audit_log_waiting) == 0
    assert shop.client.lrange(shop.keys.audit_log_unreadable, 0, -1) == [act]
    report = audit(shop)
    assert [found.kind for found in report.discrepancies] == [DiscrepancyKind.AUDIT_LOG_UNREADABLE]
    assert shop.keys.audit_log_unreadable in str(report.discrepancies[0]), "the audit says where it is kept"


def test_two_that_meet_the_same_unreadable_act_set_it_aside_once(shop: Shop) -> None:
    shop.client.rpush(shop.keys.audit_log_waiting, "{no json", '{"kind":"redrive"}')
    store.record_acts(shop)
    store.record_acts(shop)
    assert shop.client.llen(shop.keys.audit_log_unreadable) == 1
    assert len(list(read_audit_log(shop))) == 1


def break_the_plan(shop: Shop, plan_id: str) -> None:
    shop.client.delete(shop.keys.plan(plan_id))
    shop.client.set(shop.keys.plan(plan_id), "no hash")


def break_its_sums(shop: Shop, plan_id: str) -> None:
    shop.client.delete(shop.keys.plan_sums(plan_id))
    shop.client.set(shop.keys.plan_sums(plan_id), "no hash")


@pytest.mark.parametrize("broken", [break_the_plan, break_its_sums])
def test_a_plan_that_is_stored_as_something_else_is_set_aside_once_and_holds_up_no_other(
    shop: Shop, broken: Callable[[Shop, str], None]
) -> None:
    shop.bury("o-1")
    first = plans.create(shop, Search(), act=Act.REDRIVE, name="x", operator=ANN, dedupe_window_s=9)
    shop.client.hset(shop.keys.plan(first.id), "state", "listing")
    broken(shop, first.id)
    driven = store.drive(shop, rate_us=0)
    assert list(driven.problems) == [first.id]
    assert store.drive(shop, rate_us=0).problems == {}, "reported once"
    plan = redrive_all(shop)
    assert plan.verdicts == {"redriven": 1}
    assert [known.id for known in plans.recent(shop)] == [plan.id]
    (found,) = audit(shop).discrepancies
    assert (found.kind, first.id in found.detail) == (DiscrepancyKind.PLAN_UNREADABLE, True)


def test_pruning_sets_a_plan_that_is_none_aside_and_forgets_the_others(shop: Shop) -> None:
    shop.bury("o-1")
    plan = redrive_all(shop)
    shop.client.zadd(shop.keys.plans, {"plan-x": 1, plan.id: 2})
    shop.client.zadd(shop.keys.plans_open, {"plan-y": 1})
    shop.client.set(shop.keys.plan("plan-x"), "no hash")
    shop.client.set(shop.keys.plan("plan-y"), "no hash")
    shop.client.hset(shop.keys.plan(plan.id), "ended_ms", 1)
    assert store.prune(shop).forgotten == 1
    assert shop.client.smembers(shop.keys.plans_unreadable) == {b"plan-x"}
    assert shop.client.zrange(shop.keys.plans, 0, -1) == []


def lose_its_act(shop: Shop, plan_id: str) -> None:
    shop.client.hdel(shop.keys.plan(plan_id), "act")


def misdate_it(shop: Shop, plan_id: str) -> None:
    shop.client.hset(shop.keys.plan(plan_id), "created_ms", "soon")


def garble_its_name(shop: Shop, plan_id: str) -> None:
    shop.client.hset(shop.keys.plan(plan_id), "name", b"\xff\xfe")


def garble_its_sums(shop: Shop, plan_id: str) -> None:
    shop.client.hset(shop.keys.plan_sums(plan_id), "listed", "many")


@pytest.mark.parametrize(
    "broken", [break_the_plan, break_its_sums, lose_its_act, misdate_it, garble_its_name, garble_its_sums]
)
def test_a_plan_that_cannot_be_read_is_refused_with_the_reason_and_hides_no_other(
    shop: Shop, broken: Callable[[Shop, str], None]
) -> None:
    shop.bury("o-1")
    first = plans.create(shop, Search(), act=Act.REDRIVE, name="x", operator=ANN, dedupe_window_s=9)
    plan = redrive_all(shop)
    broken(shop, first.id)
    for act in (plans.pause, plans.resume, plans.cancel, plans.start):
        with pytest.raises(PlanUnreadable, match=shop.keys.plan(first.id)):
            act(shop, first.id, ANN)
    with pytest.raises(PlanUnreadable, match="trackdesk audit"):
        plans.read(shop, first.id)
    with pytest.raises(PlanUnreadable):
        plans.items(shop, first.id)
    assert [known.id for known in plans.recent(shop)] == [plan.id]


def test_a_plan_over_one_external_id_of_too_many_tenants_ends_with_what_to_do(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.bury("o-1")
    shop.client.sadd(shop.keys.tenants, *(f"a{number}" for number in range(4_500)))
    monkeypatch.setattr(store, "LOOKED_UP_WITHIN_S", 0.0)
    made = plans.create(shop, Search(external_id="o-1"), act=Act.REDRIVE, name="x", operator=ANN, dedupe_window_s=9)
    with pytest.raises(PlanInvalid, match="name a tenant"):
        plans.finish_listing(shop, made.id)
    assert plans.read(shop, made.id).state == "failed"
    assert shop.state("o-1") == "dead"
