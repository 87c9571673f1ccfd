"""The demo: a thousand sample sales through the real product, against a simulated Trackdesk that misbehaves.

Its verdict checks the product's promise from outside: every accepted sale is accounted for, the books balance, and each
delivered sale is once in the simulator's own ledger.
"""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from trackdesk_producer import Producer, Receipt, ReceiptStatus, State
from trackdesk_producer.contract.record import JobRecord
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, read_books, total

SALES = 1000
DUPLICATES, CONFLICTS, BAD, UNKNOWN_TYPE = 40, 10, 10, 25
TENANT = "demo-shop"
UNKNOWN_TYPE_CODE = "subscription"

SIMULATOR = {
    "seed": 7,
    "latency_s": 0.02,
    "faults": {
        "error_rate": 0.10,
        "commit_then_drop": 0.06,
        "drop_before_commit": 0.03,
        "commit_then_late": 0.01,
        "late_s": 3,
        "empty_cid": 0.01,
    },
}
SETTINGS: dict[str, Any] = {
    "tenant": TENANT,
    "rate_limit": 100,
    "timeout_s": 2,
    "backoff_base_s": 0.5,
    "backoff_cap_s": 4,
}
PATIENCE_S = 45.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """Sales by state."""

    book: Book
    requests: int


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo."""

    receipts: Counter[str]
    book: Book
    dead: list[tuple[str, int]]
    requests: int
    simulator_rows: int
    missing: list[str]
    """Delivered according to the books, but not in the simulator's ledger."""
    doubled: list[str]
    unfinished: int
    discrepancies: list[str]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the promise was kept."""
        return not (self.missing or self.doubled or self.unfinished or self.discrepancies)


def sample_sales(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yield the sales of a day: valid ones, repeats, conflicts, invalid ones, and an unconfigured type."""
    good = SALES - DUPLICATES - CONFLICTS - BAD - UNKNOWN_TYPE
    sales = [_sale(rng, number, "sale") for number in range(good)]
    sales += [_sale(rng, good + number, UNKNOWN_TYPE_CODE) for number in range(UNKNOWN_TYPE)]
    extra = [dict(sale) for sale in rng.sample(sales[:good], DUPLICATES)]
    extra += [{**sale, "amount": {"value": "1.00"}} for sale in rng.sample(sales[:good], CONFLICTS)]
    bad_forms: list[dict[str, Any]] = [
        {"amount": {"value": 19.9}},
        {"amount": {"value": "1,5"}},
        {"status": "APPROVD"},
        {"cid": "OUR_CID"},
        {"currency": {"code": "EURO"}},
    ]
    extra += [{**_sale(rng, 10_000 + number, "sale"), **bad_forms[number % len(bad_forms)]} for number in range(BAD)]
    yield from sales
    yield from extra


def _sale(rng: random.Random, number: int, conversion_type: str) -> dict[str, Any]:
    cents = rng.randrange(500, 25_000)
    return {
        "conversionTypeCode": conversion_type,
        "cid": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "amount": {"value": f"{cents // 100}.{cents % 100:02d}"},
        "currency": {"code": rng.choice(["EUR", "EUR", "EUR", "USD"])},
        "externalId": f"order-{number:05d}",
        "customParams": {"advS1": rng.choice(["web", "app"])},
    }


def wait_for_simulator(origin: str, *, patience_s: float = 15) -> None:
    """Wait until the simulator answers.

    Raises:
        TimeoutError: when it does not.
    """
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{origin}/_simulator/stats", timeout=2, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the simulator did not start")


def deliver(
    store: JobStore, origin: str, receipts: Iterable[Receipt], *, show: Callable[[Progress], None]
) -> DemoResult:
    """Follow the accepted sales until each has ended or failed for good, then check everything."""
    started = time.monotonic()
    accepted = [r.job_id for r in receipts if r.status is ReceiptStatus.ACCEPTED and r.job_id]
    book = Book()
    while time.monotonic() - started < PATIENCE_S:
        book = total(read_books(store).values())
        show(Progress(book, _requests(origin)))
        if not _unfinished(book):
            break
        time.sleep(_POLL_S)
    return _verdict(store, origin, list(receipts), accepted, book, time.monotonic() - started)


def _verdict(
    store: JobStore,
    origin: str,
    receipts: list[Receipt],
    accepted: list[str],
    book: Book,
    seconds: float,
) -> DemoResult:
    records = _records(store, accepted)
    delivered = [record.external_id for record in records if record.state is State.DELIVERED]
    at_trackdesk = Counter(_ledger_ids(origin))
    dead = Counter(record.reason or "unknown" for record in records if record.state is State.DEAD)
    report = audit(store)
    discrepancies = [str(found) for found in report.discrepancies]
    if len(records) != len(accepted):
        discrepancies.append(f"{len(accepted) - len(records)} accepted sales have no record")
    return DemoResult(
        receipts=Counter(receipt.status.value for receipt in receipts),
        book=book,
        dead=dead.most_common(),
        requests=_requests(origin),
        simulator_rows=sum(at_trackdesk.values()),
        missing=[external_id for external_id in delivered if at_trackdesk[external_id] == 0],
        doubled=[external_id for external_id, times in at_trackdesk.items() if times > 1],
        unfinished=_unfinished(book),
        discrepancies=discrepancies,
        seconds=seconds,
    )


def enqueue_sample(producer: Producer, rng: random.Random) -> list[Receipt]:
    """Enqueue the sample."""
    return producer.enqueue_many(sample_sales(rng))


def _unfinished(book: Book) -> int:
    return book.jobs[State.READY] + book.jobs[State.SCHEDULED] + book.jobs[State.IN_FLIGHT]


def _records(store: JobStore, ids: list[str]) -> list[JobRecord]:
    replies: list[Any] = store.client.mget([store.keys.job(identity) for identity in ids]) if ids else []
    return [JobRecord.parse(identity, raw) for identity, raw in zip(ids, replies, strict=True) if raw is not None]


def _ledger_ids(origin: str) -> list[str]:
    reply = httpx.get(f"{origin}/_simulator/ledger", params={"format": "ids"}, timeout=10, trust_env=False)
    return [str(external_id) for external_id in reply.json()["ids"]]


def _requests(origin: str) -> int:
    stats = httpx.get(f"{origin}/_simulator/stats", timeout=10, trust_env=False).json()
    return int(stats["requests"])
