"""What is left of a job: written by the scripts, read by them and by Python, and small."""

import pytest
import redis

from tests.support.store import START_MS, Item, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_producer.contract.tombstone import ENDS
from trackdesk_worker.domain.claim import Verb

FINGERPRINT = "GuHC-3eJxFXM_zaC"
MONEY = [("-", "-"), ("0", "XXX"), ("100.50", "EUR"), ("999999999999999.999999999", "JPY")]


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


@pytest.mark.parametrize(("amount", "currency"), MONEY)
@pytest.mark.parametrize(
    "reason", [*(reason for state, reason in ENDS.values() if state == "delivered" and reason), "odd"]
)
def test_a_delivered_job_is_read_back_as_it_ended(store: Store, reason: str, amount: str, currency: str) -> None:
    store.enqueue(Item("acme/o-1", amount, currency, fingerprint=FINGERPRINT))
    store.now_ms += 90_061_500
    assert store.end(store.claim_one(), Verb.DELIVER, reason)
    record = store.record("acme/o-1")
    assert (record.state, record.reason, record.attempts_total) == (State.DELIVERED, reason, 1)
    assert ("-" if record.amount is None else str(record.amount), record.currency or "-") == (amount, currency)
    assert (record.accepted_ms, record.at) == (START_MS, START_MS + 90_061_000), "times in whole seconds"
    assert FINGERPRINT.startswith(record.fingerprint)
    check_store(store)
    store.now_ms += 86_400_000
    assert store.prune() == 1
    assert check_store(store).books["acme"].jobs["pruned_delivered"] == 1


def test_a_tombstone_keeps_the_number_of_requests_and_unusual_ends(store: Store) -> None:
    store.enqueue("acme/o-1", "acme/o-2", "acme/o-3")
    store.cancel("acme/o-3")
    for _ in range(2):
        for job in store.claim(2).jobs:
            store.end(job, Verb.RETRY, "timeout")
        store.promote()
    first, second = store.claim(2).jobs
    store.end(first, Verb.DELIVER)
    store.end(second, Verb.BURY, "rejected")
    store.discard(second.id)
    ends = {}
    for name in ("o-1", "o-2", "o-3"):
        record = store.record(f"acme/{name}")
        ends[name] = (record.state, record.reason, record.attempts_total)
    assert ends[first.id[5:]] == (State.DELIVERED, "paired", 3)
    assert ends[second.id[5:]] == (State.DISCARDED, "rejected", 3)
    assert ends["o-3"] == (State.CANCELLED, "by_caller", 0)
    check_store(store)


def test_a_sale_that_ended_still_tells_a_double_from_another_content(store: Store) -> None:
    store.enqueue(Item("acme/o-1", "1", "EUR", fingerprint=FINGERPRINT))
    store.end(store.claim_one(), Verb.DELIVER)
    assert store.enqueue(Item("acme/o-1", "1", "EUR", fingerprint=FINGERPRINT)) == ["duplicate:delivered"]
    other = "H" + FINGERPRINT[1:]
    assert store.enqueue(Item("acme/o-1", "2", "EUR", fingerprint=other)) == ["conflict:delivered"]


def test_the_usual_tombstone_has_its_size(store: Store) -> None:
    store.enqueue(Item("acme/o-1", "100.50", "EUR", fingerprint=FINGERPRINT))
    store.now_ms += 3_600_000
    store.end(store.claim_one(), Verb.DELIVER)
    raw = store.client.get(store.keys.job("acme/o-1"))
    assert raw is not None
    assert len(raw) <= 34
