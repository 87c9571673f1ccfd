"""What may have landed is kept with the content it had; what Trackdesk refused cleanly stays refused."""

from collections.abc import Callable
from decimal import Decimal

import pytest
import redis

from tests.support.planted import CONTENT_EDITS, plant
from tests.support.store import Item, Store
from tests.support.store_check import check_store
from trackdesk_producer.contract.constants import CONTENTS_KEPT
from trackdesk_producer.contract.doubt import Content, Doubt, Past
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, State
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.policy import Policy

FIRST = Item("acme/1", "100.50", "EUR", fingerprint="first-content")
OTHER = Item("acme/1", "5.00", "USD", fingerprint="other-content")


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


def die_in_doubt(store: Store) -> None:
    store.end(store.claim_one(), Verb.BURY, "timeout", ambiguous=True)


def content(item: Item, *, forgotten: bool = False) -> Content:
    return Content(item.fingerprint[:8], Decimal(item.amount), item.currency, forgotten)


def doubt_is_kept_with_its_content(store: Store) -> None:
    store.enqueue(FIRST)
    die_in_doubt(store)
    store.edit(OTHER)
    assert store.record("acme/1").doubt == (content(FIRST),)
    assert store.claim_one().past == Past(Doubt.OTHER)
    store.now_ms += 60_000
    store.reclaim(policy=Policy(max_attempts=1))
    assert store.record("acme/1").doubt == (content(FIRST), content(OTHER)), "a lost claim may have landed as it was"
    store.edit(FIRST)
    assert store.claim_one().past == Past(Doubt.OTHER), "one of the two is there, and nobody knows which"


def a_correction_taken_back_is_confirmed(store: Store) -> None:
    store.enqueue(FIRST)
    die_in_doubt(store)
    store.edit(OTHER)
    store.end(store.claim_one(), Verb.BURY, "duplicate_differs")
    store.edit(FIRST)
    assert store.claim_one().past == Past(Doubt.SAME)


def a_refusal_is_remembered(store: Store) -> None:
    store.enqueue(FIRST)
    store.end(store.claim_one(), Verb.BURY, "unverified_duplicate", refused=True)
    store.redrive("acme/1")
    store.end(store.claim_one(), Verb.RETRY, "server_error", ambiguous=True)
    store.promote()
    assert store.claim_one().past == Past(Doubt.SAME, refused=True)


def a_dedupe_key_in_doubt_does_not_change(store: Store) -> None:
    store.enqueue(FIRST)
    die_in_doubt(store)
    before = store.client.get(store.keys.job("acme/1"))
    assert store.edit(OTHER, new_key=True) == "in_doubt"
    assert store.client.get(store.keys.job("acme/1")) == before


def a_restore_is_carried_by_an_edit(store: Store) -> None:
    store.enqueue(FIRST)
    store.end(store.claim_one(), Verb.BURY, "type_not_found")
    store.restored()
    assert store.edit(OTHER, new_key=True) == "in_doubt", "before any claim wrote it into the record"
    store.now_ms += 1
    store.edit(OTHER)
    assert store.record("acme/1").doubt == (content(FIRST, forgotten=True),)
    job = store.claim_one()
    assert job.past == Past(Doubt.OTHER), "what the backup knew, not what the operator made of it since"
    store.end(job, Verb.BURY, "duplicate_differs")
    store.edit(FIRST)
    assert store.claim_one().past == Past(Doubt.FORGOTTEN)


def a_restore_is_carried_by_a_claim(store: Store) -> None:
    store.enqueue(FIRST)
    store.restored()
    assert store.claim_one().past == Past(Doubt.FORGOTTEN)
    assert store.record("acme/1").doubt == (content(FIRST, forgotten=True),)


def a_restore_is_carried_by_a_redrive(store: Store) -> None:
    store.enqueue(FIRST)
    store.end(store.claim_one(), Verb.BURY, "type_not_found")
    store.restored()
    store.now_ms += 1
    store.redrive("acme/1")
    assert store.claim_one().past == Past(Doubt.FORGOTTEN)


def a_restore_overrides_only_refusals_since(store: Store) -> None:
    for name, wait in (("acme/early", 0), ("acme/late", 60_000)):
        store.now_ms += wait
        store.enqueue(Item(name, "1", "EUR"))
        store.end(store.claim_one(), Verb.BURY, "unverified_duplicate", refused=True)
    store.now_ms += 60_000
    store.restored(since_ms=store.now_ms - 90_000)
    store.now_ms += 1
    store.redrive("acme/early", "acme/late")
    assert {job.id: job.past for job in store.claim().jobs} == {
        "acme/early": Past(Doubt.FORGOTTEN, refused=True),
        "acme/late": Past(Doubt.FORGOTTEN),
    }


RULES = (
    doubt_is_kept_with_its_content,
    a_correction_taken_back_is_confirmed,
    a_refusal_is_remembered,
    a_dedupe_key_in_doubt_does_not_change,
    a_restore_is_carried_by_an_edit,
    a_restore_is_carried_by_a_claim,
    a_restore_is_carried_by_a_redrive,
    a_restore_overrides_only_refusals_since,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_store_keeps_the_rule(rule: Callable[[Store], None], store: Store) -> None:
    rule(store)
    check_store(store)


@pytest.mark.parametrize("bug", CONTENT_EDITS)
def test_a_planted_bug_breaks_a_rule(bug: str, client: redis.Redis, keys: Keys) -> None:
    take_out = plant(bug)
    broken = []
    try:
        for place, rule in enumerate(RULES):
            try:
                rule(Store(client, Keys(f"{keys.namespace}-{place}")))
            except AssertionError:
                broken.append(rule.__name__)
    finally:
        take_out()
    assert broken


def test_a_new_dedupe_key_without_doubt_forgets_the_refusal(store: Store) -> None:
    store.enqueue(FIRST)
    store.end(store.claim_one(), Verb.BURY, "unverified_duplicate", refused=True)
    assert store.edit(OTHER, new_key=True) == "ok"
    assert store.claim_one().past == Past()


def test_a_refusal_in_doubt_is_no_clean_one(store: Store) -> None:
    store.enqueue(FIRST)
    die_in_doubt(store)
    store.edit(OTHER)
    store.end(store.claim_one(), Verb.BURY, "duplicate_differs", refused=True)
    assert not store.record("acme/1").refused


def test_a_record_names_only_so_many_contents_and_confirms_none_of_more(store: Store) -> None:
    store.enqueue(FIRST)
    die_in_doubt(store)
    for number in range(CONTENTS_KEPT + 3):
        store.edit(Item("acme/1", "1", "EUR", fingerprint=f"{number:08d}"))
        die_in_doubt(store)
    assert len(store.record("acme/1").doubt) == CONTENTS_KEPT
    store.redrive("acme/1")
    assert store.claim_one().past == Past(Doubt.OTHER)


def test_a_second_restore_after_a_correction_doubts_both_contents(store: Store) -> None:
    a_restore_is_carried_by_an_edit(store)
    store.restored()
    store.now_ms += 60_000
    store.reclaim()
    assert store.claim_one().past == Past(Doubt.FORGOTTEN)


def test_doubt_of_a_release_that_named_no_content_counts_as_forgotten(store: Store) -> None:
    store.enqueue(FIRST)
    die_in_doubt(store)
    key = store.keys.job("acme/1")
    raw = store.client.get(key) or b""
    head, _, body = raw.partition(b"\n")
    older = b" ".join(head.split(b" ")[:17]) + b"\n" + body
    store.client.set(key, older)
    assert JobRecord.parse("acme/1", older).doubt == ()
    store.edit(OTHER)
    assert store.claim_one().past == Past(Doubt.OTHER)
    assert store.record("acme/1").doubt == (content(FIRST, forgotten=True),)


def test_an_unsent_claim_leaves_no_doubt(store: Store) -> None:
    store.enqueue(FIRST)
    job = store.claim_one()
    store.end(job, Verb.RELEASE, "-", entry="", spends_attempt=False)
    assert store.claim_one().past == Past()
    assert store.record("acme/1").state is State.IN_FLIGHT
