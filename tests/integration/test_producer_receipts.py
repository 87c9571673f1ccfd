"""What the producers answer, both of them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import pytest
import redis

from tests.support.producers import KINDS, AnyProducer, sale
from tests.support.store_check import check_store
from trackdesk_producer import (
    CancelStatus,
    Conversion,
    ConversionInvalid,
    EnqueueItem,
    ReceiptStatus,
    State,
    parse_conversion,
)
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.conversion.wire import post_body
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def producer(kind: str, server: EmbeddedServer, keys: Keys) -> Iterator[AnyProducer]:
    with AnyProducer(kind, server.url, tenant="acme", namespace=keys.namespace) as opened:
        yield opened


def deliver_all(store: JobStore) -> None:
    claims = store.run(store.jobs.claim(100, lease_ms=30_000, limits=Limits(rate_per_s=0)))
    settlements = [Settlement(job.id, job.token, Verb.DELIVER, "paired", entry="{}") for job in claims.jobs]
    assert all(store.run(store.jobs.settle(settlements, dedupe_window_ms=3_600_000)))


def test_a_new_sale_is_accepted_and_stored_as_it_will_be_sent(
    producer: AnyProducer, client: redis.Redis, keys: Keys
) -> None:
    receipt = producer.enqueue(sale("order-1"))
    assert (receipt.status, receipt.state, receipt.ok) == (ReceiptStatus.ACCEPTED, State.READY, True)
    assert (receipt.tenant, receipt.external_id, receipt.job_id) == ("acme", "order-1", "acme/order-1")
    assert (receipt.external_id_created, receipt.warnings, receipt.error) == (False, (), None)
    record = check_store(JobStore(client, keys)).records["acme/order-1"]
    assert record.body == post_body(parse_conversion(sale("order-1")))
    assert (record.amount, record.currency) == (Decimal("100.50"), "EUR")


def test_the_same_sale_again_is_a_duplicate_in_whatever_form(producer: AnyProducer) -> None:
    producer.enqueue(sale("order-1"))
    again = Conversion(
        conversion_type_code="sale",
        cid="7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11",
        amount="100.5",
        currency="EUR",
        external_id="order-1",
    )
    receipt = producer.enqueue(again)
    assert (receipt.status, receipt.state, receipt.ok) == (ReceiptStatus.DUPLICATE, State.READY, True)


def test_the_same_id_with_other_content_is_a_conflict_and_changes_nothing(
    producer: AnyProducer, client: redis.Redis, keys: Keys
) -> None:
    producer.enqueue(sale("order-1"))
    receipt = producer.enqueue(sale("order-1", amount={"value": "99"}))
    assert (receipt.status, receipt.ok) == (ReceiptStatus.CONFLICT, False)
    walk = check_store(JobStore(client, keys))
    assert walk.records["acme/order-1"].amount == Decimal("100.50")
    assert walk.books["acme"].jobs["conflicts"] == 1


def test_a_duplicate_tells_where_the_first_one_is(producer: AnyProducer, client: redis.Redis, keys: Keys) -> None:
    producer.enqueue(sale("order-1"))
    deliver_all(JobStore(client, keys))
    assert producer.enqueue(sale("order-1")).state is State.DELIVERED


def test_the_duplicate_of_a_cancelled_sale_is_not_ok_and_says_how_to_sell_it(producer: AnyProducer) -> None:
    producer.enqueue(sale("order-1"))
    producer.cancel("order-1")
    receipt = producer.enqueue(sale("order-1"))
    assert (receipt.status, receipt.state) == (ReceiptStatus.DUPLICATE, State.CANCELLED)
    assert (receipt.ok, receipt.given_up) == (False, True)
    assert "use a new externalId" in receipt.warnings[-1]
    assert producer.enqueue(sale("order-1b")).ok


def test_a_sale_without_an_id_gets_one_that_makes_a_repeat_safe(producer: AnyProducer) -> None:
    receipt = producer.enqueue(sale(None))
    assert receipt.external_id_created
    assert receipt.external_id is not None
    assert receipt.external_id.startswith("td-")
    assert producer.enqueue(sale(receipt.external_id)).status is ReceiptStatus.DUPLICATE
    assert producer.enqueue(sale(None)).external_id != receipt.external_id


def test_what_looks_odd_is_accepted_with_a_warning(producer: AnyProducer) -> None:
    (warning,) = producer.enqueue(sale("order-1", currency=None)).warnings
    assert "currency" in warning


def test_a_time_ahead_schedules_and_a_time_without_zone_is_refused(producer: AnyProducer) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    assert producer.enqueue(sale("order-1"), not_before=later).state is State.SCHEDULED
    assert producer.enqueue(sale("order-2"), not_before=datetime(2020, 1, 1, tzinfo=UTC)).state is State.READY
    with pytest.raises(ConversionInvalid, match="not_before has no time zone"):
        producer.enqueue(sale("order-3"), not_before=later.replace(tzinfo=None))
    assert producer.get("order-3") is None


def test_a_broken_rule_raises_with_its_name_and_stores_nothing(
    producer: AnyProducer, client: redis.Redis, keys: Keys
) -> None:
    with pytest.raises(ConversionInvalid) as caught:
        producer.enqueue(sale("order-1", cid=None, amount={"value": "1,5"}))
    assert {problem.field for problem in caught.value.problems} == {"cid", "amount.value"}
    assert not client.exists(keys.tenants)


def test_without_a_tenant_it_says_where_to_name_one(kind: str, server: EmbeddedServer, keys: Keys) -> None:
    with AnyProducer(kind, server.url, namespace=keys.namespace) as producer:
        for call in (lambda: producer.enqueue(sale("1")), lambda: producer.get("1"), lambda: producer.cancel("1")):
            with pytest.raises(ConversionInvalid, match="tenant is not set: name it in the call"):
                call()
        assert producer.enqueue(sale("1"), tenant="other").job_id == "other/1"
        assert producer.get("1", tenant="other") is not None


@pytest.mark.parametrize("bad", ["Acme", "a.b", "", "a/b", "-a"])
def test_a_tenant_that_is_no_dns_label_is_refused(kind: str, server: EmbeddedServer, keys: Keys, bad: str) -> None:
    with pytest.raises(ConversionInvalid, match="tenant must be"):
        AnyProducer(kind, server.url, tenant=bad, namespace=keys.namespace)


def test_tenants_do_not_share_ids(producer: AnyProducer) -> None:
    assert producer.enqueue(sale("order-1")).status is ReceiptStatus.ACCEPTED
    assert producer.enqueue(sale("order-1"), tenant="other").status is ReceiptStatus.ACCEPTED


def test_with_identity_by_type_one_id_may_be_a_sale_and_a_lead(kind: str, server: EmbeddedServer, keys: Keys) -> None:
    options: dict[str, Any] = {"tenant": "acme", "namespace": keys.namespace, "identity_by_type": True}
    with AnyProducer(kind, server.url, **options) as producer:
        assert producer.enqueue(sale("1")).status is ReceiptStatus.ACCEPTED
        assert producer.enqueue(sale("1", conversionTypeCode="lead")).status is ReceiptStatus.ACCEPTED
        assert producer.enqueue(sale("1")).status is ReceiptStatus.DUPLICATE
        status = producer.get("1", conversion_type="lead")
        assert status is not None
        assert status.external_id == "1"
        assert producer.cancel("1", conversion_type="lead").status is CancelStatus.CANCELLED
        status = producer.get("1", conversion_type="sale")
        assert status is not None
        assert status.state is State.READY
        with pytest.raises(ConversionInvalid, match="conversion_type="):
            producer.get("1")


def test_get_tells_a_job_as_its_shop_sees_it(producer: AnyProducer, client: redis.Redis, keys: Keys) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    producer.enqueue(sale("order-1"))
    status = producer.get("order-1")
    assert status is not None
    assert (status.state, status.attempts, status.reason, status.amount, status.currency) == (
        State.READY,
        0,
        None,
        Decimal("100.50"),
        "EUR",
    )
    assert before <= status.accepted_at <= datetime.now(UTC) + timedelta(seconds=1)
    deliver_all(JobStore(client, keys))
    status = producer.get("order-1")
    assert status is not None
    assert (status.state, status.attempts, status.reason) == (State.DELIVERED, 1, "paired")
    assert producer.get("order-2") is None


def test_the_status_of_an_amount_without_a_currency_has_none(producer: AnyProducer) -> None:
    producer.enqueue(sale("order-1", currency=None))
    producer.enqueue(sale("order-2", currency=None, amount=None))
    status = [producer.get("order-1"), producer.get("order-2")]
    assert [(s.amount, s.currency) for s in status if s] == [(Decimal("100.50"), None), (None, None)]


def test_a_sale_is_cancelled_until_it_was_sent(producer: AnyProducer, client: redis.Redis, keys: Keys) -> None:
    producer.enqueue(sale("order-1"))
    assert (producer.cancel("order-1").status, producer.cancel("order-1").state) == (
        CancelStatus.CANCELLED,
        State.CANCELLED,
    )
    assert producer.enqueue(sale("order-1")).state is State.CANCELLED
    producer.enqueue(sale("order-2"))
    deliver_all(JobStore(client, keys))
    refused = producer.cancel("order-2")
    assert (refused.status, refused.state) == (CancelStatus.REFUSED, State.DELIVERED)
    unknown = producer.cancel("order-3")
    assert (unknown.status, unknown.state) == (CancelStatus.UNKNOWN, None)


def test_many_get_one_receipt_each_in_order_whatever_is_wrong_with_some(
    producer: AnyProducer, client: redis.Redis, keys: Keys
) -> None:
    producer.enqueue(sale("known"))
    later = datetime.now(UTC) + timedelta(hours=1)
    receipts = producer.enqueue_many(
        [
            sale("1"),
            sale("2", cid=None),
            "no mapping",
            sale("known"),
            sale("known", amount={"value": "7"}),
            EnqueueItem(sale("3"), tenant="other"),
            EnqueueItem(parse_conversion(sale("4")), not_before=later),
            EnqueueItem(sale("5"), tenant="Not A Label"),
            EnqueueItem(sale("6"), not_before=later.replace(tzinfo=None)),
            sale("1"),
            sale(None),
        ]
    )
    r = ReceiptStatus
    wanted = [
        r.ACCEPTED, r.REFUSED, r.REFUSED, r.DUPLICATE, r.CONFLICT, r.ACCEPTED,
        r.ACCEPTED, r.REFUSED, r.REFUSED, r.DUPLICATE, r.ACCEPTED,
    ]  # fmt: skip
    assert [receipt.status for receipt in receipts] == wanted
    assert all(isinstance(receipt.error, ConversionInvalid) == (receipt.status is r.REFUSED) for receipt in receipts)
    assert [receipt.external_id for receipt in receipts[:-1]] == [
        "1", "2", None, "known", "known", "3", "4", "5", "6", "1",
    ]  # fmt: skip
    assert receipts[-1].external_id_created
    assert (receipts[5].tenant, receipts[6].state) == ("other", State.SCHEDULED)
    check_store(JobStore(client, keys))


def test_more_than_fit_one_round_trip_keep_their_order_and_any_iterable_will_do(
    producer: AnyProducer, client: redis.Redis, keys: Keys
) -> None:
    number = 1203
    receipts = producer.enqueue_many(sale(f"o-{n}") if n % 100 else sale(f"o-{n}", cid=None) for n in range(number))
    assert [receipt.external_id for receipt in receipts] == [f"o-{n}" for n in range(number)]
    assert sum(receipt.ok for receipt in receipts) == number - 13
    assert len(check_store(JobStore(client, keys)).records) == number - 13
    assert producer.enqueue_many([]) == []
    assert [receipt.status for receipt in producer.enqueue_many([sale("o-1202")])] == [ReceiptStatus.DUPLICATE]


def test_an_unknown_durability_is_refused_at_once(kind: str, server: EmbeddedServer, producer: AnyProducer) -> None:
    with pytest.raises(ValueError, match="forever"):
        AnyProducer(kind, server.url, durability="forever")
    with pytest.raises(ValueError, match="forever"):
        producer.enqueue(sale("1"), durability="forever")


class _NoOffset(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> None:
        return None

    def dst(self, _: datetime | None) -> None:
        return None


class _Raises(_NoOffset):
    def utcoffset(self, _: datetime | None) -> None:
        raise LookupError("no such zone")


def test_a_bad_not_before_refuses_its_own_item_and_no_other(producer: AnyProducer) -> None:
    bad: list[Any] = [
        "tomorrow",
        1_800_000_000,
        date(2027, 1, 1),
        timedelta(days=1),
        datetime(2027, 1, 1),  # noqa: DTZ001 - the very fault
        datetime(2027, 1, 1, tzinfo=_NoOffset()),
        datetime(2027, 1, 1, tzinfo=_Raises()),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ]
    items = [EnqueueItem(sale(f"bad-{number}"), not_before=moment) for number, moment in enumerate(bad)]
    receipts = producer.enqueue_many([sale("before"), *items, sale("after")])
    assert [receipt.status for receipt in receipts] == [
        ReceiptStatus.ACCEPTED,
        *[ReceiptStatus.REFUSED] * len(bad),
        ReceiptStatus.ACCEPTED,
    ]
    for number, receipt in enumerate(receipts[1:-1]):
        assert receipt.external_id == f"bad-{number}"
        assert isinstance(receipt.error, ConversionInvalid)
        assert [problem.field for problem in receipt.error.problems] == ["not_before"]
