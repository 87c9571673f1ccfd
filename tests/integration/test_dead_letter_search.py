"""Finding sales and their causes on real servers: every filter, both orders, page by page."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import redis

from tests.support.store import START_MS, Item, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.constants import OTHER_TYPES
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.ops.dead_letters.by_cause import dead_by_cause, summary
from trackdesk_worker.ops.dead_letters.search import Found, SearchInvalid, search
from trackdesk_worker.store.dead_letters import index_query, index_readers
from trackdesk_worker.store.dead_letters.index_query import walk
from trackdesk_worker.store.dead_letters.query import Search

DEAD = Search(state=State.DEAD)


class Dead:
    """Dead letters that die when and how a test says."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def bury(
        self,
        identity: str,
        *,
        reason: str = "type_not_found",
        status: int | None = 400,
        at_ms: int | None = None,
        amount: str = "100.50",
        currency: str = "EUR",
        kind: str = "sale",
        **fields: str,
    ) -> None:
        """Make one dead letter."""
        if at_ms is not None:
            self.store.now_ms = START_MS + at_ms
        body = json.dumps({"conversionTypeCode": kind, **fields})
        self.store.enqueue(Item(identity, amount, "-" if amount == "-" else currency, body=body))
        (job,) = self.store.claim(1).jobs
        assert job.id == identity
        entry = {"kind": "attempt"} | ({} if status is None else {"status": status})
        assert self.store.end(job, Verb.BURY, reason, entry=json.dumps(entry))

    def ids(self, wanted: Search = DEAD, **options: Any) -> list[str]:
        """Return the externalIds that a search finds, in its order, read page by page."""
        found, cursor = [], None
        while True:
            page = self.search(wanted, after=cursor, **options)
            found += [row.external_id for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                return found

    def search(self, wanted: Search, **options: Any) -> Found:
        """Return one page."""
        return search(self.store, wanted, **options)


@pytest.fixture
def dead(client: redis.Redis, keys: Keys) -> Dead:
    return Dead(Store(client, keys))


@pytest.fixture
def mixed(dead: Dead) -> Dead:
    dead.bury("acme/a1", at_ms=1_000, amount="5", cid="click-1", customerId="jane")
    dead.bury("acme/a2", at_ms=2_000, amount="7000.10", kind="lead", cid="click-1")
    dead.bury("acme/a3", at_ms=3_000, amount="20", reason="server_error", status=503, customerId="joe")
    dead.bury("bert/b1", at_ms=4_000, amount="9", currency="USD", reason="timeout", status=None)
    dead.bury("bert/b2", at_ms=5_000, amount="-", reason="server_error", status=502)
    check_store(dead.store)
    return dead


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["b2", "b1", "a3", "a2", "a1"]),
    ({"order": "oldest"}, ["a1", "a2", "a3", "b1", "b2"]),
    ({"order": "largest"}, ["a2", "a3", "b1", "a1", "b2"]),
    ({"order": "smallest"}, ["b2", "a1", "b1", "a3", "a2"]),
    ({"tenant": "acme"}, ["a3", "a2", "a1"]),
    ({"tenant": "nobody"}, []),
    ({"reason": "server_error"}, ["b2", "a3"]),
    ({"reason": "server_error", "tenant": "acme"}, ["a3"]),
    ({"conversion_type": "lead"}, ["a2"]),
    ({"http_status": 502}, ["b2"]),
    ({"currency": "USD"}, ["b1"]),
    ({"min_amount": Decimal(9)}, ["b1", "a3", "a2"]),
    ({"max_amount": Decimal(9)}, ["b1", "a1"]),
    ({"min_amount": Decimal("7000.10"), "max_amount": Decimal("7000.10")}, ["a2"]),
    ({"min_amount": Decimal("7000.100000001")}, []),
    ({"min_amount": Decimal(6), "order": "smallest"}, ["b1", "a3", "a2"]),
    ({"since_ms": START_MS + 2_000, "until_ms": START_MS + 4_000}, ["b1", "a3", "a2"]),
    ({"since_ms": START_MS + 2_000, "until_ms": START_MS + 4_000, "order": "largest"}, ["a2", "a3", "b1"]),
    ({"since_ms": START_MS + 2_000, "min_amount": Decimal(10), "tenant": "acme"}, ["a3", "a2"]),
    ({"cid": "click-1"}, ["a2", "a1"]),
    ({"cid": "click-1", "conversion_type": "sale"}, ["a1"]),
    ({"cid": "click-1", "order": "largest"}, ["a2", "a1"]),
    ({"customer_id": "joe"}, ["a3"]),
    ({"customer_id": "click-1"}, []),
    ({"external_id": "b1"}, ["b1"]),
    ({"external_id": "b1", "tenant": "acme"}, []),
]


@pytest.mark.parametrize(("wanted", "expected"), FILTERS, ids=[str(wanted) for wanted, _ in FILTERS])
def test_every_filter_finds_what_it_means_in_order_and_page_by_page(
    mixed: Dead, wanted: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(**{"state": State.DEAD, **wanted})
    assert mixed.ids(search) == expected
    assert mixed.ids(search, limit=1) == expected
    assert mixed.ids(search, limit=2) == expected
    total = mixed.search(search, limit=1).total
    assert total in (None, len(expected))
    assert summary(mixed.store, search).jobs == len(expected)
    # Also where too many match the range of the other index to be sorted at once.
    monkeypatch.setattr(index_readers, "FEW", 0)
    if not search.by_person:
        assert mixed.ids(search, limit=1) == expected


def test_totals_come_from_the_indexes_where_they_know_them(mixed: Dead) -> None:
    totals = {
        str(wanted): mixed.search(replace(DEAD, **wanted), limit=1).total
        for wanted in (
            {},
            {"tenant": "acme"},
            {"min_amount": Decimal(9)},
            {"since_ms": START_MS + 4_000},
            {"cid": "click-1"},
            {"min_amount": Decimal(9), "since_ms": 0},
        )
    }
    assert list(totals.values()) == [5, 3, 3, 2, None, None]


@pytest.mark.parametrize("order", ["newest", "oldest", "largest", "smallest"])
def test_letters_of_one_moment_and_amount_are_paged_once_each_while_they_leave(dead: Dead, order: Any) -> None:
    names = [f"o-{n:02}" for n in range(25)]
    dead.store.bury(*(f"acme/{name}" for name in names))
    seen: list[str] = []
    cursor = None
    while True:
        page = dead.search(replace(DEAD, order=order), limit=4, after=cursor)
        seen += [row.external_id for row in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
        # What leaves between two pages makes nobody miss another.
        dead.store.redrive(f"acme/{seen[-1]}")
    assert seen == sorted(names, reverse=order in ("newest", "largest"))


def test_a_walk_meets_each_letter_once(dead: Dead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_query, "BATCH", 2)
    dead.store.bury(*(f"acme/o-{n}" for n in range(7)))
    assert len({sale.id for sale in walk(dead.store, DEAD)}) == 7


def test_a_damaged_record_does_not_hide_the_others(dead: Dead) -> None:
    dead.store.bury("acme/o-1", "acme/o-2")
    dead.store.client.set(dead.store.keys.job("acme/o-1"), b"9 nonsense\n")
    assert dead.ids() == ["o-2"]


@pytest.mark.parametrize("cursor", ["", "x", "dead:12", "dead:12:", "dead:nan:a", "ready:1:a", "dead:1e99:a"])
def test_a_cursor_that_no_page_ended_with_is_refused(dead: Dead, cursor: str) -> None:
    with pytest.raises(SearchInvalid, match="cursor"):
        dead.search(DEAD, after=cursor)


def test_sales_in_every_state_are_found_by_external_id_and_by_state(dead: Dead) -> None:
    store = dead.store
    store.enqueue("acme/ended")
    store.end(store.claim_one(), Verb.DELIVER)
    dead.bury("acme/buried")
    store.enqueue("acme/flying")
    store.claim_one()
    store.enqueue("acme/waiting", "bert/waiting", Item("acme/later", due_ms=START_MS + 9_000))
    for external_id, state in (
        ("ended", State.DELIVERED),
        ("buried", State.DEAD),
        ("flying", State.IN_FLIGHT),
        ("later", State.SCHEDULED),
    ):
        (row,) = dead.search(Search(external_id=external_id)).rows
        assert row.state is state
        assert dead.ids(Search(state=state)) == [external_id]
    assert {row.tenant for row in dead.search(Search(external_id="waiting")).rows} == {"acme", "bert"}
    assert dead.ids(Search(state=State.READY, tenant="bert")) == ["waiting"]
    assert sorted(dead.ids(Search(), limit=2)) == ["buried", "ended", "flying", "later", "waiting", "waiting"]
    assert dead.ids(Search(state=State.CANCELLED)) == []


def test_a_sale_whose_type_is_part_of_its_identity_is_found_by_external_id(dead: Dead) -> None:
    dead.bury("acme/lead\x1fo-1", kind="lead")
    assert [row.id for row in dead.search(Search(external_id="o-1")).rows] == ["acme/lead\x1fo-1"]
    dead.store.redrive("acme/lead\x1fo-1")
    assert dead.ids(Search(external_id="o-1", conversion_type="lead")) == ["o-1"]


def test_ended_sales_are_paged_through_their_prune_lists(dead: Dead) -> None:
    names = []
    for hour in range(3):
        for number in range(3):
            names.append(f"o-{hour}{number}")
            dead.store.now_ms = START_MS + hour * 3_600_000 + number
            dead.store.enqueue(f"acme/{names[-1]}")
            dead.store.end(dead.store.claim_one(), Verb.DELIVER)
    ended = Search(state=State.DELIVERED)
    assert dead.ids(ended, limit=2) == names[::-1]
    assert dead.ids(replace(ended, order="oldest"), limit=2) == names


@pytest.mark.parametrize(
    "unclear",
    [
        Search(order="largest"),
        Search(state=State.READY, order="smallest"),
        Search(state=State.READY, http_status=500),
        Search(state=State.DELIVERED, cid="click-1"),
    ],
)
def test_what_no_index_answers_is_refused_with_what_to_change(dead: Dead, unclear: Search) -> None:
    with pytest.raises(SearchInvalid, match="search"):
        dead.search(unclear)


def test_a_rare_wish_is_read_in_several_goes(dead: Dead) -> None:
    dead.store.enqueue(*(Item(f"acme/o-{n:03}", body='{"conversionTypeCode":"sale"}') for n in range(60)))
    dead.store.now_ms += 1
    dead.store.enqueue(Item("acme/rare", body='{"conversionTypeCode":"lead"}'))
    wanted = Search(state=State.READY, conversion_type="lead", order="oldest")
    first = dead.search(wanted, limit=1, within_s=0)
    assert (first.rows, first.complete, first.examined) == ((), False, 20)
    assert dead.ids(wanted, limit=1, within_s=0) == ["rare"]


def test_clusters_name_each_cause_with_its_money_and_times(mixed: Dead) -> None:
    mixed.bury("acme/a4", at_ms=9_000, amount="0.50", currency="USD")
    found = dead_by_cause(mixed.store, Search())
    first = found.rows[0]
    assert (first.tenant, first.reason, first.conversion_type, first.http_status, first.jobs) == (
        "acme", "type_not_found", "sale", 400, 2,
    )  # fmt: skip
    assert first.money == {"EUR": Decimal(5), "USD": Decimal("0.50")}
    assert (first.first_ms, first.last_ms, first.example) == (START_MS + 1_000, START_MS + 9_000, "a1")
    assert "Trackdesk" in first.remedy
    assert (found.jobs, found.complete, len(found.rows)) == (6, True, 5)
    assert found.money == {"EUR": Decimal("7025.10"), "USD": Decimal("9.50")}
    # The same, from the dead letters themselves.
    read = dead_by_cause(mixed.store, Search(until_ms=START_MS + 9_999))
    assert len(read.rows) == len(found.rows)
    assert all(row in found.rows for row in read.rows)
    assert (read.jobs, read.money) == (found.jobs, found.money)
    narrowed = dead_by_cause(mixed.store, Search(since_ms=START_MS + 5_000))
    assert {(c.reason, c.jobs) for c in narrowed.rows} == {("server_error", 1), ("type_not_found", 1)}


def test_beyond_the_limit_of_causes_types_are_filed_together_and_still_searched_apart(
    dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead.bury("acme/long", kind="x" * 101)
    dead.bury("acme/sale")
    with dead.store.client.pipeline() as pipeline:
        for number in range(2_000):
            pipeline.hset(dead.store.keys.cause_numbers, f"t\x1fr\x1f-\x1f-\x1f{number}", f"x{number}")
        pipeline.execute()
    dead.bury("acme/lead", kind="lead")
    dead.store.client.delete(*[dead.store.keys.cause_numbers])
    assert dead.ids(replace(DEAD, conversion_type="lead")) == ["lead"]
    assert dead.ids(replace(DEAD, conversion_type="x" * 101)) == ["long"]
    assert dead.ids(replace(DEAD, conversion_type="sale")) == ["sale"]
    kinds = {c.conversion_type: c.jobs for c in dead_by_cause(dead.store, Search()).rows}
    assert kinds == {OTHER_TYPES: 2, "sale": 1}
    assert summary(dead.store, replace(DEAD, conversion_type="lead")).jobs == 1


def test_a_search_by_external_id_looks_up_every_tenant_and_type_or_says_that_it_did_not(
    mixed: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = mixed.store
    store.client.sadd(store.keys.tenants, *(f"a{n}" for n in range(4_500)))  # before the tenant that has it
    search = Search(external_id="b1")
    assert mixed.ids(search, within_s=None) == ["b1"]
    whole = mixed.search(search, within_s=None)
    assert (whole.complete, whole.examined > 4_000) == (True, True)
    monkeypatch.setattr(index_query, "LOOKED_UP", 0)
    short = mixed.search(search, within_s=0.0)
    assert (short.complete, short.cursor, short.rows) == (False, None, ())


def test_a_search_by_click_finds_more_letters_than_one_batch(mixed: Dead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_query, "BATCH", 1)
    assert mixed.ids(Search(cid="click-1", state=State.DEAD)) == ["a2", "a1"]
