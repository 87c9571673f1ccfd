"""The audit finds each kind of damage, names it, and finds nothing where nothing is wrong."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.support.acting import act_now
from tests.support.shop import WINDOW_S, Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import AuditReport, audit
from trackdesk_worker.ops.audit.discrepancies import DiscrepancyKind
from trackdesk_worker.ops.audit_log import Act, Operator, record
from trackdesk_worker.store.audit_chain import link
from trackdesk_worker.store.job_store import JobStore

WORDS = {"state": 1, "amount": 4, "currency": 5, "at": 7, "token": 10}


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    """A store with a job in every state, in two currencies and two tenants, and one that was pruned."""
    made = Shop(server, client, keys)
    made.deliver("delivered-1", "delivered-2")
    made.bury("dead-1", "dead-2", amount={"value": "0.000000001"})
    made.bury("discarded-1")
    act_now(JobStore(client, keys), "discard", ["acme/discarded-1"], window_ms=WINDOW_S * 1000)
    made.sell("scheduled-1", currency={"code": "USD"})
    made.settle(made.claim(), Verb.RETRY, "server_error", delay_ms=86_400_000)
    made.sell("in-flight-1")
    made.claim()
    made.sell("ready-1", "ready-2", amount={"value": "999999999999999.999999999"})
    made.sell("ready-3", tenant="bert", amount=None, currency=None)
    made.sell("cancelled-1")
    made.producer.cancel("cancelled-1")
    for count in range(1, 4):
        record(JobStore(client, keys), Act.DISCARD, Operator("ann", "test"), count=count)
    return made


def rewrite_act(shop: Shop, position: int, old: bytes, new: bytes) -> None:
    """Change an entry of the audit log behind its back."""
    raw = shop.client.lindex(shop.keys.audit_log, position)
    assert old in raw
    shop.client.lset(shop.keys.audit_log, position, raw.replace(old, new))


def cause_number(shop: Shop) -> str:
    number = shop.client.hget(shop.keys.cause_of, "acme/dead-2")
    assert number is not None
    return number.decode()


def look(shop: Shop) -> AuditReport:
    return audit(shop)


def kinds(report: AuditReport) -> set[tuple[DiscrepancyKind, str | None]]:
    return {(found.kind, found.job_id) for found in report.discrepancies}


def rewrite(shop: Shop, identity: str, **words: str) -> None:
    """Change words of a record's header behind the scripts' back."""
    head, feed, body = shop.client.get(shop.keys.job(identity)).partition(b"\n")
    fields = head.decode().split(" ")
    for name, value in words.items():
        fields[WORDS[name]] = value
    shop.client.set(shop.keys.job(identity), " ".join(fields).encode() + feed + body)


def test_a_sound_store_has_no_discrepancy(shop: Shop) -> None:
    report = look(shop)
    assert [str(found) for found in report.discrepancies] == []
    assert (report.ok, report.rested, report.walks, report.records) == (True, True, 1, 11)
    assert report.book.jobs["accepted"] == 11


def test_an_empty_store_has_no_discrepancy(client: redis.Redis, keys: Keys) -> None:
    assert audit(JobStore(client, keys)).ok


def test_a_pruned_store_has_no_discrepancy(shop: Shop) -> None:
    assert shop.run(shop.jobs.prune(now_ms=9_999_999_999_999)) == 4
    report = look(shop)
    assert [str(found) for found in report.discrepancies] == []
    assert report.records == 7


DAMAGE: dict[str, tuple[Callable[[Shop], object], DiscrepancyKind, str | None]] = {
    "an act could not be read and was set aside": (
        lambda s: s.client.rpush(s.keys.audit_log_unreadable, "{no json"),
        DiscrepancyKind.AUDIT_LOG_UNREADABLE,
        None,
    ),
    "a plan could not be read and was set aside": (
        lambda s: s.client.sadd(s.keys.plans_unreadable, "plan-x"),
        DiscrepancyKind.PLAN_UNREADABLE,
        None,
    ),
    "a dead letter's record is deleted": (
        lambda s: s.client.delete(s.keys.job("acme/dead-1")),
        DiscrepancyKind.RECORD_MISSING,
        "acme/dead-1",
    ),
    "a delivered job's record is deleted": (
        lambda s: s.client.delete(s.keys.job("acme/delivered-1")),
        DiscrepancyKind.RECORD_MISSING,
        "acme/delivered-1",
    ),
    "a record is no record": (
        lambda s: s.client.set(s.keys.job("acme/ready-1"), "utter nonsense " * 20),
        DiscrepancyKind.RECORD_UNREADABLE,
        "acme/ready-1",
    ),
    "a record is of a format that nobody has written yet": (
        lambda s: s.client.set(s.keys.job("acme/ready-1"), "7 whatever it may say\n{}"),
        DiscrepancyKind.RECORD_NEWER,
        "acme/ready-1",
    ),
    "a record is no string": (
        lambda s: (s.client.delete(s.keys.job("acme/ready-1")), s.client.rpush(s.keys.job("acme/ready-1"), "x")),
        DiscrepancyKind.RECORD_UNREADABLE,
        "acme/ready-1",
    ),
    "a dead letter calls itself delivered": (
        lambda s: rewrite(s, "acme/dead-1", state="delivered"),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/dead-1",
    ),
    "a live record calls itself ended": (
        lambda s: rewrite(s, "acme/ready-1", state="cancelled"),
        DiscrepancyKind.RECORD_INCONSISTENT,
        "acme/ready-1",
    ),
    "a ready job holds a token": (
        lambda s: rewrite(s, "acme/ready-1", token="77"),
        DiscrepancyKind.RECORD_INCONSISTENT,
        "acme/ready-1",
    ),
    "a job is in no index": (
        lambda s: s.client.zrem(s.keys.scheduled, "acme/scheduled-1"),
        DiscrepancyKind.NOT_INDEXED,
        "acme/scheduled-1",
    ),
    "a dead letter is filed under no cause": (
        lambda s: s.client.hdel(s.keys.cause_of, "acme/dead-2"),
        DiscrepancyKind.NOT_INDEXED,
        "acme/dead-2",
    ),
    "a dead letter is indexed with another amount": (
        lambda s: s.client.zadd(s.keys.cause(cause_number(s), "amount"), {"acme/dead-2": 7}),
        DiscrepancyKind.WRONG_SCORE,
        "acme/dead-2",
    ),
    "a dead letter is filed under another's cause": (
        lambda s: s.client.hset(s.keys.causes, cause_number(s), "acme\x1fserver_error\x1f400\x1fEUR\x1fsale"),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/dead-2",
    ),
    "a ready job is filed under a cause": (
        lambda s: s.client.hset(s.keys.cause_of, "acme/ready-1", cause_number(s)),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/ready-1",
    ),
    "a cause holds a job that is unknown": (
        lambda s: s.client.zadd(s.keys.cause(cause_number(s), "died"), {"acme/nobody": 1}),
        DiscrepancyKind.RECORD_MISSING,
        "acme/nobody",
    ),
    "a click leads to no dead letter": (
        lambda s: [
            s.client.zrem(s.keys.dead_references, entry)
            for entry in s.client.zrange(s.keys.dead_references, 0, -1)
            if entry.endswith(b"acme/dead-2")
        ],
        DiscrepancyKind.NOT_INDEXED,
        "acme/dead-2",
    ),
    "a click leads to a job that is not dead": (
        lambda s: s.client.zadd(s.keys.dead_references, {"0123456789abcdef0123acme/ready-1": 0}),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/ready-1",
    ),
    "the money of a cause is wrong": (
        lambda s: s.client.hincrby(s.keys.cause_books, f"{cause_number(s)}:1", 2),
        DiscrepancyKind.CAUSE_MISCOUNTED,
        None,
    ),
    "a dead letter is missing from its cause": (
        lambda s: s.client.zrem(s.keys.cause(cause_number(s), "died"), "acme/dead-2"),
        DiscrepancyKind.NOT_INDEXED,
        "acme/dead-2",
    ),
    "a job is in two indexes": (
        lambda s: s.client.zadd(s.keys.scheduled, {"acme/ready-2": 1}),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/ready-2",
    ),
    "a job is in another tenant's list": (
        lambda s: s.client.zadd(s.keys.ready("bert", "live"), {"acme/ready-2": 1}),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/ready-2",
    ),
    "an index names a job that never was": (
        lambda s: s.client.zadd(s.keys.in_flight, {"acme/ghost": 1}),
        DiscrepancyKind.RECORD_MISSING,
        "acme/ghost",
    ),
    "a job in flight vanished": (
        lambda s: s.client.delete(s.keys.job("acme/in-flight-1")),
        DiscrepancyKind.RECORD_MISSING,
        "acme/in-flight-1",
    ),
    "a place is held by a job that is not in flight": (
        lambda s: s.client.zadd(f"{s.keys.prefix}places:acme", {"acme/ready-1": 1}),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/ready-1",
    ),
    "a place is held by a job that never was": (
        lambda s: s.client.zadd(f"{s.keys.prefix}places:acme", {"acme/ghost": 1}),
        DiscrepancyKind.RECORD_MISSING,
        "acme/ghost",
    ),
    "a place is of another tenant": (
        lambda s: s.client.zadd(f"{s.keys.prefix}places:bert", {"acme/in-flight-1": 1}),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/in-flight-1",
    ),
    "a place ends at another time than its lease": (
        lambda s: s.client.zadd(f"{s.keys.prefix}places:acme", {"acme/in-flight-1": 1}),
        DiscrepancyKind.WRONG_SCORE,
        "acme/in-flight-1",
    ),
    "a job that is ready counts as a retry that waits": (
        lambda s: s.client.zadd(s.keys.retries, {"acme/ready-1": 1}),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/ready-1",
    ),
    "a retry waits since a time after its own": (
        lambda s: s.client.zadd(s.keys.retries, {"acme/scheduled-1": 9_999_999_999_999}),
        DiscrepancyKind.WRONG_SCORE,
        "acme/scheduled-1",
    ),
    "an index names bytes that are no text": (
        lambda s: s.client.zadd(s.keys.in_flight, {b"acme/\xff": 1}),
        DiscrepancyKind.RECORD_MISSING,
        "acme/\\xff",
    ),
    "an index has another time than the record": (
        lambda s: s.client.zadd(s.keys.dead, {"acme/dead-1": 5}),
        DiscrepancyKind.WRONG_SCORE,
        "acme/dead-1",
    ),
    "an amount in a header is changed": (
        lambda s: rewrite(s, "acme/dead-1", amount="5.00"),
        DiscrepancyKind.CONVERSION_ALTERED,
        "acme/dead-1",
    ),
    "a currency in a header is changed": (
        lambda s: rewrite(s, "acme/dead-1", currency="USD"),
        DiscrepancyKind.CONVERSION_ALTERED,
        "acme/dead-1",
    ),
    "a body is changed": (
        lambda s: s.client.set(
            s.keys.job("acme/dead-1"), s.client.get(s.keys.job("acme/dead-1")).replace(b'"sale"', b'"lead"')
        ),
        DiscrepancyKind.CONVERSION_ALTERED,
        "acme/dead-1",
    ),
    "a body is cut off": (
        lambda s: s.client.set(s.keys.job("acme/dead-1"), s.client.get(s.keys.job("acme/dead-1"))[:-9]),
        DiscrepancyKind.CONVERSION_ALTERED,
        "acme/dead-1",
    ),
    "an amount of an ended job is changed": (
        lambda s: s.client.set(
            s.keys.job("acme/delivered-1"), s.client.get(s.keys.job("acme/delivered-1")).replace(b"100.50", b"900.50")
        ),
        DiscrepancyKind.BOOKS_DISAGREE,
        None,
    ),
    "a tombstone is in no prune list": (
        lambda s: [
            s.client.lrem(key, 0, "acme/delivered-1") for key in s.client.scan_iter(f"{s.keys.prefix}tombstones:*")
        ],
        DiscrepancyKind.NOT_PRUNABLE,
        "acme/delivered-1",
    ),
    "a tombstone is pruned twice": (
        lambda s: s.client.rpush(next(iter(s.client.scan_iter(f"{s.keys.prefix}tombstones:*"))), "acme/delivered-2"),
        DiscrepancyKind.NOT_PRUNABLE,
        "acme/delivered-2",
    ),
    "a live job is in a prune list": (
        lambda s: s.client.rpush(next(iter(s.client.scan_iter(f"{s.keys.prefix}tombstones:*"))), "acme/dead-1"),
        DiscrepancyKind.WRONGLY_INDEXED,
        "acme/dead-1",
    ),
    "a prune list is not filed": (lambda s: s.client.delete(s.keys.tombstones), DiscrepancyKind.NOT_PRUNABLE, None),
    "a history outlives its job's end": (
        lambda s: s.client.rpush(s.keys.history("acme/delivered-1"), "{}"),
        DiscrepancyKind.LEFT_BEHIND,
        "acme/delivered-1",
    ),
    "a history has no job": (
        lambda s: s.client.rpush(s.keys.history("acme/ghost"), "{}"),
        DiscrepancyKind.RECORD_MISSING,
        "acme/ghost",
    ),
    "a number of the books is changed": (
        lambda s: s.client.hincrby(s.keys.ledger("acme"), "dead", 1),
        DiscrepancyKind.BOOKS_UNBALANCED,
        None,
    ),
    "two numbers of the books are changed alike": (
        lambda s: (
            s.client.hincrby(s.keys.ledger("acme"), "delivered", 1),
            s.client.hincrby(s.keys.ledger("acme"), "accepted", 1),
        ),
        DiscrepancyKind.BOOKS_DISAGREE,
        None,
    ),
    "a billionth in the books is moved": (
        lambda s: (
            s.client.hincrby(s.keys.ledger("acme"), "dead:EUR:0", 1),
            s.client.hincrby(s.keys.ledger("acme"), "ready:EUR:0", -1),
        ),
        DiscrepancyKind.BOOKS_DISAGREE,
        None,
    ),
    "the books hold a word": (
        lambda s: s.client.hset(s.keys.ledger("acme"), "dead", "many"),
        DiscrepancyKind.BOOKS_UNREADABLE,
        None,
    ),
    "a cause is miscounted": (
        lambda s: s.client.hincrby(s.keys.cause_books, f"{cause_number(s)}:jobs", 2),
        DiscrepancyKind.CAUSE_MISCOUNTED,
        None,
    ),
    "a tenant with work has no turn": (lambda s: s.client.zrem(s.keys.turn, "acme"), DiscrepancyKind.NO_TURN, None),
    "a tenant is not listed": (lambda s: s.client.srem(s.keys.tenants, "bert"), DiscrepancyKind.TENANT_UNLISTED, None),
    "a key has a name nobody gave": (
        lambda s: s.client.zadd(f"{s.keys.prefix}ready:".encode() + b"\xff:live", {"acme/ready-1": 1}),
        DiscrepancyKind.RECORD_UNREADABLE,
        None,
    ),
    "an operator's act is changed": (
        lambda s: rewrite_act(s, 1, b'"count":2', b'"count":1'),
        DiscrepancyKind.AUDIT_LOG_ALTERED,
        None,
    ),
    "an operator's act is put under another name, with a hash of its own": (
        lambda s: s.client.lset(s.keys.audit_log, 1, link({"kind": "discard", "operator": "bob"}, None)[0]),
        DiscrepancyKind.AUDIT_LOG_ALTERED,
        None,
    ),
    "an operator's act is removed": (
        lambda s: s.client.lrem(s.keys.audit_log, 1, s.client.lindex(s.keys.audit_log, 1)),
        DiscrepancyKind.AUDIT_LOG_ALTERED,
        None,
    ),
    "the last act is cut off": (lambda s: s.client.rpop(s.keys.audit_log), DiscrepancyKind.AUDIT_LOG_ALTERED, None),
    "the whole log is gone": (lambda s: s.client.delete(s.keys.audit_log), DiscrepancyKind.AUDIT_LOG_ALTERED, None),
    "the log is no list": (
        lambda s: (s.client.delete(s.keys.audit_log), s.client.set(s.keys.audit_log, "x")),
        DiscrepancyKind.AUDIT_LOG_ALTERED,
        None,
    ),
    "a job vanished with its index entry": (
        lambda s: (
            s.client.delete(s.keys.job("acme/scheduled-1"), s.keys.history("acme/scheduled-1")),
            s.client.zrem(s.keys.scheduled, "acme/scheduled-1"),
        ),
        DiscrepancyKind.BOOKS_DISAGREE,
        None,
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_is_named(shop: Shop, damage: str) -> None:
    do, kind, job_id = DAMAGE[damage]
    do(shop)
    report = look(shop)
    assert (kind, job_id) in kinds(report), [str(found) for found in report.discrepancies]
    assert not report.ok
    assert all(str(found) for found in report.discrepancies)


@pytest.mark.parametrize(("position", "named"), [(0, 1), (1, 2), (2, 3)])
def test_the_first_altered_act_is_named_by_its_number(shop: Shop, position: int, named: int) -> None:
    rewrite_act(shop, position, b'"operator":"ann"', b'"operator":"bob"')
    (found,) = look(shop).discrepancies
    assert found.detail == f"entry {named} of the audit log was altered"


def test_a_chain_that_was_rewritten_does_not_match_a_head_kept_elsewhere(shop: Shop) -> None:
    head = look(shop).audit_log_head
    record(shop, Act.PAUSE, Operator("ann", "test"), count=1)
    assert audit(shop, sought_head=head).ok, "acts behind it do not matter"

    shop.client.delete(shop.keys.audit_log, shop.keys.audit_log_head)
    for count in range(1, 5):
        record(shop, Act.DISCARD, Operator("bob", "forged"), count=count)
    assert look(shop).ok, "the forged chain agrees with itself"
    (found,) = audit(shop, sought_head=head).discrepancies
    assert found.detail == "the head you named is no longer in the audit log"


def test_operators_who_act_at_once_form_one_chain(shop: Shop) -> None:
    def act(name: str) -> None:
        with redis.Redis(port=shop.client.connection_pool.connection_kwargs["port"]) as own:
            for count in range(25):
                record(JobStore(own, shop.keys), Act.REDRIVE, Operator(name, "test"), count=count)

    with ThreadPoolExecutor() as pool:
        list(pool.map(act, ["ann", "bob", "eve"]))
    report = look(shop)
    assert (report.ok, report.audit_entries) == (True, 78)


def test_a_job_that_an_older_release_claimed_or_scheduled_needs_no_entry_that_it_did_not_know(shop: Shop) -> None:
    shop.client.delete(f"{shop.keys.prefix}places:acme", shop.keys.retries)
    assert [str(found) for found in look(shop).discrepancies] == []


def test_a_paused_tenant_needs_no_turn(shop: Shop) -> None:
    shop.run(shop.jobs.pause("acme", operator="ann", reason="test"))
    assert look(shop).ok


def test_no_kind_is_without_its_damage() -> None:
    assert {kind for _, kind, _ in DAMAGE.values()} == set(DiscrepancyKind)


def test_work_that_goes_on_is_no_discrepancy(shop: Shop) -> None:
    stop = threading.Event()
    other = redis.Redis(port=shop.client.connection_pool.connection_kwargs["port"])
    busy = Shop.__new__(Shop)
    JobStore.__init__(busy, other, shop.keys)
    busy.producer = shop.producer

    def work() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            busy.sell(f"busy-{number}")
            verb = (Verb.DELIVER, Verb.BURY, Verb.RETRY)[number % 3]
            busy.settle(busy.claim(), verb, "paired" if verb is Verb.DELIVER else "server_error")
            busy.run(busy.jobs.promote())

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for _ in range(5):
            report = look(shop)
            assert [str(found) for found in report.discrepancies] == []
            assert report.rested or report.walks == 3
    finally:
        stop.set()
        worker.join()
        other.close()
    assert look(shop).rested
    assert look(shop).ok


def test_the_audit_of_a_ruined_store_needs_bounded_memory(shop: Shop) -> None:
    shop.client.zadd(shop.keys.dead, {f"acme/ghost-{n}": n for n in range(3000)})
    report = look(shop)
    assert report.found >= 3000
    assert len(report.discrepancies) == 1000
