"""Reading dead letters and acting on them, on real servers."""

from decimal import Decimal

import pytest
import redis

from tests.support.shop import WINDOW_S, Shop
from trackdesk_producer.contract.job import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops import dead_letter_service as service
from trackdesk_worker.ops.dead_letter_service import ActInterrupted
from trackdesk_worker.ops.embedded import EmbeddedServer
from trackdesk_worker.ops.operations_log import Operator, read_operations
from trackdesk_worker.store.jobs import Verb
from trackdesk_worker.store.ledger import read_books, total
from trackdesk_worker.store.search import Search

ANN = Operator("ann", "type created")
DEAD = Search(state=State.DEAD)


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


def test_a_plan_counts_jobs_money_and_reasons_and_the_time_at_the_budget(shop: Shop) -> None:
    shop.bury("a1", "a2")
    shop.bury("a3", reason="server_error", amount={"value": "0.005"}, currency={"code": "USD"})
    plan = service.plan_matching(shop.client, shop.keys, DEAD)
    assert (plan.jobs, plan.found) == (3, 3)
    assert plan.money == {"EUR": Decimal("201.00"), "USD": Decimal("0.005")}
    assert plan.by_reason == {"type_not_found": 2, "server_error": 1}
    assert service.seconds_at_budget(shop.client, shop.keys, plan, rate_limit=2) == 1.5
    assert service.seconds_at_budget(shop.client, shop.keys, plan, rate_limit=0) == 0
    shop.client.hset(shop.keys.tenant("acme"), "rate_us", 10_000_000)
    assert service.seconds_at_budget(shop.client, shop.keys, plan, rate_limit=2) == 30
    assert service.plan_matching(shop.client, shop.keys, DEAD, limit=2).jobs == 2


def test_a_redrive_moves_each_job_once_and_puts_it_on_record(shop: Shop) -> None:
    names = [f"o-{n:03}" for n in range(450)]
    shop.bury(*names)
    plan = service.plan_matching(shop.client, shop.keys, DEAD)
    steps: list[int] = []
    verdicts = service.redrive(shop.client, shop.keys, plan, ANN, progress=steps.append)
    assert verdicts.counts == {"redriven": 450}
    assert sum(steps) == 450
    assert verdicts.money == {"EUR": Decimal("45225.00")}
    book = total(read_books(shop.client, shop.keys).values())
    assert (book.jobs["ready"], book.jobs["dead"], book.residual_jobs) == (450, 0, 0)
    entry = shop.history("o-007")[-1]
    assert (entry["kind"], entry["operator"], entry["reason"]) == ("redrive", "ann", "type created")
    started, finished = read_operations(shop.client, shop.keys)
    assert started["operation"] == finished["operation"] == verdicts.operation == entry["operation"]
    assert (started["phase"], started["count"], started["money"]) == ("started", 450, {"EUR": "45225.00"})
    assert (finished["phase"], finished["count"], finished["verdicts"]) == ("finished", 450, {"redriven": 450})


def test_verdicts_add_up_when_jobs_changed_since_the_plan(shop: Shop) -> None:
    shop.bury("still", "moved", "gone")
    plan = service.plan_matching(shop.client, shop.keys, DEAD)
    service.redrive(shop.client, shop.keys, service.plan_named(shop.client, shop.keys, ["acme/moved"]), ANN)
    shop.settle(shop.claim(), Verb.DELIVER, "paired")
    shop.client.delete(shop.keys.job("acme/gone"))
    verdicts = service.redrive(shop.client, shop.keys, plan, ANN)
    assert verdicts.counts == {"redriven": 1, "refused:delivered": 1, "unknown": 1}
    assert verdicts.others == {"acme/moved": "refused:delivered", "acme/gone": "unknown"}
    assert verdicts.tried == plan.jobs


def test_two_plans_over_the_same_jobs_redrive_each_once(shop: Shop) -> None:
    shop.bury("o-1", "o-2")
    first = service.plan_matching(shop.client, shop.keys, DEAD)
    second = service.plan_matching(shop.client, shop.keys, DEAD)
    assert service.redrive(shop.client, shop.keys, first, ANN).counts == {"redriven": 2}
    assert service.redrive(shop.client, shop.keys, second, ANN).counts == {"refused:ready": 2}


def test_a_discard_ends_the_jobs_and_keeps_the_books(shop: Shop) -> None:
    shop.bury("o-1", "o-2")
    shop.sell("o-3")
    plan = service.plan_named(shop.client, shop.keys, ["acme/o-1", "acme/o-3", "acme/o-1"])
    assert (plan.jobs, plan.found) == (2, 1)
    verdicts = service.discard(shop.client, shop.keys, plan, ANN, dedupe_window_s=WINDOW_S)
    assert verdicts.counts == {"discarded": 1, "refused:ready": 1}
    assert verdicts.money == {"EUR": Decimal("100.50")}
    assert [shop.state(name) for name in ("o-1", "o-2", "o-3")] == ["discarded", "dead", "ready"]
    started = read_operations(shop.client, shop.keys)[0]
    assert started["kind"] == "discard"
    assert started["jobs"][0] == {"tenant": "acme", "external_id": "o-1"}


def test_an_act_is_on_record_also_when_the_store_is_full(own_server: EmbeddedServer, keys: Keys) -> None:
    with redis.Redis(port=own_server.port) as client:
        shop = Shop(own_server, client, keys)
        shop.bury("o-1")
        client.config_set("maxmemory", 1)
        plan = service.plan_matching(client, keys, DEAD)
        assert service.redrive(client, keys, plan, ANN).done == 1
        assert len(read_operations(client, keys)) == 2


def test_a_store_that_goes_away_in_the_middle_leaves_the_verdicts_so_far(
    own_server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 2)
    with redis.Redis(port=own_server.port) as client:
        shop = Shop(own_server, client, keys)
        shop.bury("o-1", "o-2", "o-3")
        plan = service.plan_matching(client, keys, DEAD)
        with pytest.raises(ActInterrupted, match="after 2 of 3 jobs") as stop:
            service.redrive(client, keys, plan, ANN, progress=lambda _: own_server.kill())
        assert stop.value.verdicts.counts == {"redriven": 2}
