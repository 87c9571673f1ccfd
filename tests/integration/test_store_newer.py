"""Records that a newer release wrote: an older one leaves them alone, says so, and loses nothing; the newer goes on."""

from collections.abc import Iterator

import pytest
import redis

from tests.support.next_release import REARRANGED, become, remember
from tests.support.store import WINDOW_MS, Item, Store
from tests.support.store_check import check_store
from trackdesk_producer import AsyncProducer, Producer, ReceiptStatus, RecordTooNew
from trackdesk_producer.contract.constants import NEWER
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import RecordNewer, State
from trackdesk_producer.contract.scripts import load_script
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit.discrepancies import DiscrepancyKind
from trackdesk_worker.store.jobs import Unparked


class Releases:
    """Switches this process between today's release and a later one."""

    def __init__(self) -> None:
        self._undo = remember()

    def newer(self) -> None:
        """Be the later one."""
        load_script.cache_clear()
        become(REARRANGED)

    def today(self) -> None:
        """Be this one again."""
        load_script.cache_clear()
        self._undo()


@pytest.fixture
def releases() -> Iterator[Releases]:
    switch = Releases()
    yield switch
    switch.today()


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def raw(store: Store) -> dict[bytes, bytes | None]:
    names = list(store.client.scan_iter(match=f"{store.keys.prefix}job:*"))
    return {name: store.client.get(name) for name in sorted(names)}


def unpark(store: Store, most: int = 500) -> Unparked:
    return store.run(store.jobs.unpark(most, now_ms=store.now_ms))


def deliver(store: Store, job_id: str, token: str) -> list[bool]:
    return store.settle(Settlement(job_id, token, Verb.DELIVER, "paired", entry="{}"))


def test_claim_sets_a_newer_record_aside_and_goes_on_with_its_own(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue(Item("acme/new", "10", "EUR"))
    releases.today()
    store.enqueue(Item("acme/old", "20", "EUR"))
    before = raw(store)

    assert [job.id for job in store.claim().jobs] == ["acme/old"]
    assert store.claim().wait_ms is None, "what is set aside is no work at hand"
    assert raw(store)[store.keys.job("acme/new").encode()] == before[store.keys.job("acme/new").encode()]
    assert unpark(store) == Unparked(0, 1)

    releases.newer()
    assert unpark(store) == Unparked(1, 0)
    (job,) = store.claim().jobs
    assert job.id == "acme/new"
    assert deliver(store, job.id, job.token) == [True]
    old = store.record("acme/old")
    assert deliver(store, old.id, str(old.token)) == [True], "a later release settles what an older one claimed"
    check_store(store)


def test_a_newer_record_keeps_its_time_its_place_and_its_lease(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue(Item("acme/later", due_ms=store.now_ms + 5_000), "acme/leased")
    leased = store.claim_one()
    releases.today()
    store.now_ms += 60_000  # due, and the lease has run out
    assert store.promote() == 1, "it was looked at"
    assert store.reclaim().ready == 0
    assert (store.promote(), store.reclaim().ready) == (0, 0), "once aside it is in nobody's way"
    assert deliver(store, leased.id, leased.token) == [False], "an older release settles nothing of a newer one's"

    releases.newer()
    assert unpark(store) == Unparked(2, 0)
    assert (store.promote(), store.reclaim().ready) == (1, 1)
    check_store(store)


def test_a_thousand_newer_records_do_not_hide_what_is_due_behind_them(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue(*(Item(f"acme/{n}", due_ms=store.now_ms + 1_000) for n in range(1000)))
    releases.today()
    store.enqueue(Item("acme/mine", due_ms=store.now_ms + 2_000))
    store.now_ms += 3_000
    assert [store.promote(), store.promote(), store.promote()] == [500, 500, 1]
    assert [job.id for job in store.claim().jobs] == ["acme/mine"]


def test_what_stands_aside_comes_back_even_behind_what_nobody_can_read(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue(*(f"acme/{n}" for n in range(20)))
    releases.today()
    store.claim()
    for n in range(10):  # of a release newer still
        store.client.set(store.keys.job(f"acme/{n}"), b"9 whatever\n{}")
    releases.newer()
    back = 0
    for _ in range(200):
        back += unpark(store, 2).back
    assert back == 10


def test_an_operator_of_an_older_release_is_refused(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue("acme/1", "acme/2")
    job = store.claim(1).jobs[0]
    store.settle(Settlement(job.id, job.token, Verb.BURY, "type_not_found", entry="{}"))
    releases.today()
    assert store.redrive("acme/1") == [f"refused:{NEWER}"]
    assert store.discard("acme/1") == [f"refused:{NEWER}"]
    assert store.cancel("acme/2") == [f"refused:{NEWER}"]
    with pytest.raises(RecordNewer, match="written by a newer release"):
        store.record("acme/1")


def test_a_newer_tombstone_is_put_off_and_never_taken_for_a_stray(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue(Item("acme/1", "1", "EUR"))
    job = store.claim_one()
    deliver(store, job.id, job.token)
    releases.today()
    store.now_ms += WINDOW_MS + 3_600_000
    store.prune()
    assert store.client.exists(store.keys.job("acme/1"))
    releases.newer()
    check_store(store)
    store.now_ms += 2 * 86_400_000
    assert store.prune() == 1
    assert check_store(store).books["acme"].jobs["pruned_delivered"] == 1


def test_the_audit_of_an_older_release_names_what_it_cannot_judge(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue("acme/1", "acme/2")
    for job in store.claim().jobs:
        deliver(store, job.id, job.token)
    assert audit(store).ok
    releases.today()
    report = audit(store)
    assert {found.kind for found in report.discrepancies} == {DiscrepancyKind.RECORD_NEWER}
    assert not report.ok


def test_a_producer_of_an_older_release_says_what_to_do(
    server: EmbeddedServer, store: Store, releases: Releases
) -> None:
    sale = {"conversionTypeCode": "sale", "cid": "6f1c0a52", "externalId": "order-1"}
    with Producer(server.url, tenant="acme", namespace=store.keys.namespace) as later:
        releases.newer()
        with Producer(server.url, tenant="acme", namespace=store.keys.namespace) as first:
            assert first.enqueue(sale).ok
        releases.today()
        for call in (lambda: later.enqueue(sale), lambda: later.get("order-1"), lambda: later.cancel("order-1")):
            with pytest.raises(RecordTooNew, match=r"'order-1'; upgrade it here, then repeat the call"):
                call()
        other, mine = later.enqueue_many([sale, {**sale, "externalId": "order-2"}])
    assert (other.status, other.ok, mine.status) == (ReceiptStatus.REFUSED, False, ReceiptStatus.ACCEPTED)
    assert isinstance(other.error, RecordTooNew)


async def test_an_asyncio_producer_too(server: EmbeddedServer, store: Store, releases: Releases) -> None:
    sale = {"conversionTypeCode": "sale", "cid": "6f1c0a52", "externalId": "order-1"}
    async with AsyncProducer(server.url, tenant="acme", namespace=store.keys.namespace) as later:
        releases.newer()
        store.enqueue("acme/order-1")
        releases.today()
        with pytest.raises(RecordTooNew):
            await later.enqueue(sale)


def test_the_books_are_the_same_for_both(store: Store, releases: Releases) -> None:
    releases.newer()
    store.enqueue(Item("acme/1", "12.50", "EUR"), Item("acme/2", "1", "EUR"))
    releases.today()
    store.enqueue(Item("acme/3", "5", "EUR"))
    store.claim()
    releases.newer()
    unpark(store)
    book = check_store(store).books["acme"]
    assert (book.jobs[State.READY], book.jobs[State.IN_FLIGHT], book.jobs["orphaned_entries"]) == (2, 1, 0)
