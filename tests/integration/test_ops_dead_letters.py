"""Reading dead letters and acting on them, on real servers."""

from decimal import Decimal

import pytest
import redis

from tests.support.shop import WINDOW_S, Shop
from trackdesk_producer.contract.job import job_id
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops import dead_letter_service as service
from trackdesk_worker.ops.dead_letter_service import ActInterrupted
from trackdesk_worker.ops.embedded import EmbeddedServer
from trackdesk_worker.ops.operations_log import Operator, read_operations
from trackdesk_worker.store import dead_letters
from trackdesk_worker.store.dead_letters import DeadFilter, DeadLettersUnreadable, group_sizes, read_page, walk
from trackdesk_worker.store.jobs import Verb
from trackdesk_worker.store.ledger import read_books, total

ANN = Operator("ann", "type created")


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


def ids(letters: object) -> list[str]:
    return [letter.record.external_id for letter in letters]  # type: ignore[attr-defined]


def set_died(shop: Shop, external_id: str, died_ms: int, reason: str = "type_not_found", tenant: str = "acme") -> None:
    """Move a death to another time, in record and indexes."""
    identity = job_id(tenant, external_id)
    raw = shop.client.get(shop.keys.job(identity))
    head, _, body = raw.partition(b"\n")
    words = head.split(b" ")
    words[7] = str(died_ms).encode()
    shop.client.set(shop.keys.job(identity), b" ".join(words) + b"\n" + body)
    for key in (shop.keys.dead, shop.keys.dead_group(tenant, reason)):
        shop.client.zadd(key, {identity: died_ms})


def test_a_page_lists_the_youngest_first_and_names_where_to_go_on(shop: Shop) -> None:
    names = [f"o-{n}" for n in range(7)]
    shop.bury(*names)
    for n, name in enumerate(names):
        set_died(shop, name, 1000 + n)
    first = read_page(shop.client, shop.keys, DeadFilter(), limit=3)
    second = read_page(shop.client, shop.keys, DeadFilter(), limit=3, after=first.cursor)
    third = read_page(shop.client, shop.keys, DeadFilter(), limit=3, after=second.cursor)
    assert [ids(page.letters) for page in (first, second, third)] == [
        ["o-6", "o-5", "o-4"],
        ["o-3", "o-2", "o-1"],
        ["o-0"],
    ]
    assert third.cursor is None


def test_letters_that_died_in_the_same_millisecond_are_paged_once_each(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", 2)
    names = [f"o-{n:02}" for n in range(25)]
    shop.bury(*names)
    for name in names:
        set_died(shop, name, 5000)
    seen, cursor = [], None
    while True:
        page = read_page(shop.client, shop.keys, DeadFilter(), limit=4, after=cursor)
        seen += ids(page.letters)
        cursor = page.cursor
        if cursor is None:
            break
        # What leaves between two pages makes nobody miss another.
        gone = job_id("acme", seen[-1])
        shop.client.zrem(shop.keys.dead, gone)
    assert seen == sorted(names, reverse=True)
    left = [name for name in names if shop.client.zscore(shop.keys.dead, job_id("acme", name)) is not None]
    assert ids(walk(shop.client, shop.keys, DeadFilter())) == left


def test_filters_narrow_by_tenant_reason_type_and_time(shop: Shop) -> None:
    shop.bury("a1", "a2", reason="type_not_found")
    shop.bury("a3", reason="server_error", conversionTypeCode="lead")
    shop.bury("b1", reason="type_not_found", tenant="bert")
    for name, died, reason, tenant in (
        ("a1", 1000, "type_not_found", "acme"),
        ("a2", 2000, "type_not_found", "acme"),
        ("a3", 3000, "server_error", "acme"),
        ("b1", 4000, "type_not_found", "bert"),
    ):
        set_died(shop, name, died, reason, tenant)

    def matching(**wanted: object) -> list[str]:
        return ids(walk(shop.client, shop.keys, DeadFilter(**wanted)))  # type: ignore[arg-type]

    assert matching() == ["a1", "a2", "a3", "b1"]
    assert matching(tenant="acme") == ["a1", "a2", "a3"]
    assert matching(reason="type_not_found") == ["a1", "a2", "b1"]
    assert matching(tenant="acme", reason="type_not_found") == ["a1", "a2"]
    assert matching(conversion_type="lead") == ["a3"]
    assert matching(since_ms=2000, until_ms=3000) == ["a2", "a3"]
    assert matching(tenant="nobody") == []
    newest = read_page(shop.client, shop.keys, DeadFilter(until_ms=3000), limit=2)
    assert ids(newest.letters) == ["a3", "a2"]
    assert group_sizes(shop.client, shop.keys) == {
        ("acme", "type_not_found"): 2,
        ("acme", "server_error"): 1,
        ("bert", "type_not_found"): 1,
    }


@pytest.mark.parametrize("cursor", ["", "x", "12", "12:", "-1:a", "9999999999999999999:a"])
def test_a_cursor_that_no_page_ended_with_is_refused(shop: Shop, cursor: str) -> None:
    with pytest.raises(DeadLettersUnreadable):
        read_page(shop.client, shop.keys, DeadFilter(), after=cursor)


def test_a_damaged_record_does_not_hide_the_others(shop: Shop) -> None:
    shop.bury("o-1", "o-2")
    shop.client.set(shop.keys.job(job_id("acme", "o-1")), b"9 nonsense\n")
    assert ids(walk(shop.client, shop.keys, DeadFilter())) == ["o-2"]


def test_a_plan_counts_jobs_money_and_reasons_and_the_time_at_the_budget(shop: Shop) -> None:
    shop.bury("a1", "a2")
    shop.bury("a3", reason="server_error", amount={"value": "0.005"}, currency={"code": "USD"})
    plan = service.plan_matching(shop.client, shop.keys, DeadFilter())
    assert (plan.jobs, plan.found) == (3, 3)
    assert plan.money == {"EUR": Decimal("201.00"), "USD": Decimal("0.005")}
    assert plan.by_reason == {"type_not_found": 2, "server_error": 1}
    assert service.seconds_at_budget(shop.client, shop.keys, plan, rate_limit=2) == 1.5
    assert service.seconds_at_budget(shop.client, shop.keys, plan, rate_limit=0) == 0
    shop.client.hset(shop.keys.tenant("acme"), "rate_us", 10_000_000)
    assert service.seconds_at_budget(shop.client, shop.keys, plan, rate_limit=2) == 30
    assert service.plan_matching(shop.client, shop.keys, DeadFilter(), limit=2).jobs == 2


def test_a_redrive_moves_each_job_once_and_puts_it_on_record(shop: Shop) -> None:
    names = [f"o-{n:03}" for n in range(450)]
    shop.bury(*names)
    plan = service.plan_matching(shop.client, shop.keys, DeadFilter())
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
    plan = service.plan_matching(shop.client, shop.keys, DeadFilter())
    service.redrive(shop.client, shop.keys, service.plan_named(shop.client, shop.keys, ["acme/moved"]), ANN)
    shop.settle(shop.claim(), Verb.DELIVER, "paired")
    shop.client.delete(shop.keys.job("acme/gone"))
    verdicts = service.redrive(shop.client, shop.keys, plan, ANN)
    assert verdicts.counts == {"redriven": 1, "refused:delivered": 1, "unknown": 1}
    assert verdicts.others == {"acme/moved": "refused:delivered", "acme/gone": "unknown"}
    assert verdicts.tried == plan.jobs


def test_two_plans_over_the_same_jobs_redrive_each_once(shop: Shop) -> None:
    shop.bury("o-1", "o-2")
    first = service.plan_matching(shop.client, shop.keys, DeadFilter())
    second = service.plan_matching(shop.client, shop.keys, DeadFilter())
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
        plan = service.plan_matching(client, keys, DeadFilter())
        assert service.redrive(client, keys, plan, ANN).done == 1
        assert len(read_operations(client, keys)) == 2


def test_a_store_that_goes_away_in_the_middle_leaves_the_verdicts_so_far(
    own_server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "BATCH", 2)
    with redis.Redis(port=own_server.port) as client:
        shop = Shop(own_server, client, keys)
        shop.bury("o-1", "o-2", "o-3")
        plan = service.plan_matching(client, keys, DeadFilter())
        with pytest.raises(ActInterrupted, match="after 2 of 3 jobs") as stop:
            service.redrive(client, keys, plan, ANN, progress=lambda _: own_server.kill())
        assert stop.value.verdicts.counts == {"redriven": 2}


def test_clusters_name_each_cause_with_its_money_and_times(shop: Shop) -> None:
    shop.bury("a1", "a2")
    shop.bury("a3", conversionTypeCode="lead")
    shop.bury("b1", tenant="bert", amount=None, currency=None)
    set_died(shop, "a1", 1000)
    set_died(shop, "a2", 9000)
    found = service.clusters(shop.client, shop.keys, DeadFilter())
    assert [(c.tenant, c.conversion_type, c.jobs) for c in found] == [
        ("acme", "sale", 2),
        ("acme", "lead", 1),
        ("bert", "sale", 1),
    ]
    assert (found[0].first_ms, found[0].last_ms, found[0].money) == (1000, 9000, {"EUR": Decimal("201.00")})
    assert found[2].money == {}
