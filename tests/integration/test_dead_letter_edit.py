"""Correcting a dead letter: the difference shown, the rules of enqueue, the books and the record afterwards."""

import json
from decimal import Decimal
from typing import Any

import pytest
import redis

from tests.support.acting import act_now
from tests.support.reads import read_audit_log
from tests.support.shop import Shop, sale
from tests.support.store_check import check_store
from trackdesk_producer import ReceiptStatus
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.edit import Change, Edit, EditInvalid, edit_and_redrive, propose
from trackdesk_worker.ops.dead_letters.search import search
from trackdesk_worker.store.dead_letters.query import Search
from trackdesk_worker.store.ledger import read_books

ANN = Operator("ann", "wrong type code")
JANE: dict[str, Any] = {"customerId": "jane@example.com", "customParams": {"advS1": "Jane Doe"}}


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


def look(shop: Shop, changes: dict[str, str | None], identity: str = "acme/o-1") -> Edit:
    return propose(shop, identity, changes)


def apply(shop: Shop, changes: dict[str, str | None], *, expect: str | None = None) -> Any:
    shown = expect or look(shop, changes).shown
    return edit_and_redrive(shop, "acme/o-1", changes, ANN, expect=shown)


def test_a_correction_goes_out_under_the_same_identity_with_the_difference_on_record(shop: Shop) -> None:
    shop.bury("o-1", **JANE)
    changes: dict[str, str | None] = {"conversionTypeCode": "purchase", "amount": "99.90", "customer_id": None}
    proposed = look(shop, changes)
    assert proposed.errors == ()
    assert set(proposed.diff) == {
        Change("conversionTypeCode", "sale", "purchase"),
        Change("amount.value", "100.50", "99.90"),
        Change("customerId", "•••", None),
    }
    assert apply(shop, changes, expect=proposed.shown).diff == proposed.diff
    (job,) = shop.claim()
    body = json.loads(job.body)
    assert (body["conversionTypeCode"], body["amount"], "customerId" in body) == ("purchase", {"value": "99.90"}, False)
    assert (body["externalId"], body["customParams"]) == ("o-1", JANE["customParams"])
    assert job.job_class == "redrive"
    entry = shop.history("o-1")[-1]
    assert (entry["kind"], entry["operator"], entry["reason"]) == ("edit", "ann", "wrong type code")
    assert {"field": "amount.value", "before": "100.50", "after": "99.90"} in entry["changes"]
    (logged,) = read_audit_log(shop)
    assert (logged["kind"], logged["money"], logged["jobs"]) == (
        "edit", {"EUR": "99.90"}, [{"tenant": "acme", "external_id": "o-1"}],
    )  # fmt: skip
    assert "jane" not in json.dumps([logged, entry])
    assert read_books(shop)["acme"].money["accepted"] == {"EUR": Decimal("99.90")}
    assert audit(shop).ok
    shop.settle([job], Verb.DELIVER, "paired")
    assert not shop.client.exists(shop.keys.edited)
    check_store(shop)
    assert audit(shop).ok


def test_the_shops_repeat_stays_a_duplicate(shop: Shop) -> None:
    shop.bury("o-1")
    apply(shop, {"amount": "1"})
    assert shop.producer.enqueue(sale("o-1")).status is ReceiptStatus.DUPLICATE
    corrected = sale("o-1", amount={"value": "1"})
    assert shop.producer.enqueue(corrected).status is ReceiptStatus.CONFLICT


def test_a_correction_may_be_corrected_again_and_discarded(shop: Shop) -> None:
    shop.bury("o-1")
    apply(shop, {"amount": "1"})
    shop.settle(shop.claim(), Verb.BURY, "server_error")
    apply(shop, {"amount": None, "currency": None})
    shop.settle(shop.claim(), Verb.BURY, "server_error")
    assert audit(shop).ok
    assert act_now(shop, "discard", ["acme/o-1"]) == ["discarded"]
    check_store(shop)
    assert audit(shop).ok


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"externalId": "o-2"}, "identity"),
        ({"amount": "12,50"}, "amount"),
        ({"currency": "EURO"}, "currency"),
        ({"nonsense": "x"}, "nonsense"),
        ({"conversion_type_code": ""}, "conversionTypeCode"),
        ({"amount": "100.50"}, "nothing would change"),
        ({}, "nothing would change"),
        ({"customParams.advS1": "x" * 2000}, "advS1"),
    ],
)
def test_what_enqueue_would_refuse_is_refused(shop: Shop, changes: dict[str, str | None], error: str) -> None:
    shop.bury("o-1")
    before = shop.client.get(shop.keys.job("acme/o-1"))
    assert error in " ".join(look(shop, changes).errors)
    with pytest.raises(EditInvalid, match=error):
        apply(shop, changes)
    assert shop.client.get(shop.keys.job("acme/o-1")) == before
    assert read_audit_log(shop) == []


def test_a_type_that_is_part_of_the_identity_cannot_change(shop: Shop) -> None:
    shop.bury("o-1")
    raw, history = shop.client.get(shop.keys.job("acme/o-1")), shop.client.lrange(shop.keys.history("acme/o-1"), 0, -1)
    shop.client.set(shop.keys.job("acme/sale\x1fo-1"), raw)
    shop.client.rpush(shop.keys.history("acme/sale\x1fo-1"), *history)
    (error,) = look(shop, {"conversionTypeCode": "lead"}, "acme/sale\x1fo-1").errors
    assert "conversionTypeCode is part of the sale's identity" in error


def test_only_what_the_operator_saw_is_changed(shop: Shop) -> None:
    shop.bury("o-1")
    seen = look(shop, {"amount": "1"}).shown
    act_now(shop, "redrive", ["acme/o-1"])
    with pytest.raises(EditInvalid, match="it is ready"):
        apply(shop, {"amount": "1"}, expect=seen)
    shop.settle(shop.claim(), Verb.BURY, "server_error")
    with pytest.raises(EditInvalid, match="has changed since you opened it"):
        apply(shop, {"amount": "1"}, expect=seen)
    with pytest.raises(EditInvalid, match="it is unknown"):
        look(shop, {"amount": "1"}, "acme/none")


def test_doubt_is_shown_before_a_correction(shop: Shop) -> None:
    shop.sell("o-1")
    shop.settle(shop.claim(), Verb.BURY, "timeout", ambiguous=True)
    assert "may have landed" in look(shop, {"amount": "1"}).warnings[0]


@pytest.mark.parametrize("changes", [{"conversionTypeCode": "lead"}, {"revenueOriginId": "r-2"}])
@pytest.mark.parametrize("doubt", ["an attempt", "a restore"])
def test_what_trackdesk_dedupes_on_cannot_change_in_doubt(
    shop: Shop, changes: dict[str, str | None], doubt: str
) -> None:
    shop.sell("o-1", revenueOriginId="r-1")
    shop.settle(shop.claim(), Verb.BURY, "timeout", ambiguous=doubt == "an attempt")
    if doubt == "a restore":
        shop.run(shop.jobs.restored())
    (error,) = look(shop, changes).errors
    assert "cannot change now: an attempt may have landed" in error
    assert "redrive" in error.lower()
    with pytest.raises(EditInvalid, match="cannot change now"):
        apply(shop, changes)
    apply(shop, {"amount": "1"})


def test_both_contents_are_shown_of_a_sale_that_trackdesk_may_hold_otherwise(shop: Shop) -> None:
    shop.sell("o-1")
    shop.settle(shop.claim(), Verb.BURY, "timeout", ambiguous=True)
    assert "may have landed with 100.50 EUR" in look(shop, {"amount": "1"}).warnings[0]
    apply(shop, {"amount": "1", "currency": "USD"})
    shop.settle(shop.claim(), Verb.BURY, "duplicate_differs")
    (row,) = search(shop, Search()).rows
    assert (row.amount, row.currency, row.in_doubt) == (Decimal("1"), "USD", ("100.50 EUR",))


def test_a_body_changed_behind_a_correction_is_found(shop: Shop) -> None:
    shop.bury("o-1")
    apply(shop, {"amount": "1"})
    key = shop.keys.job("acme/o-1")
    shop.client.set(key, shop.client.get(key).replace(b'"cid":"6f1c', b'"cid":"6f1d'))
    (found,) = audit(shop).discrepancies
    assert "corrected by an operator" in found.detail
