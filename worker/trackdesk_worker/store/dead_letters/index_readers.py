"""Reading the indexes of jobs in the order of a search: which index, from where to where.

A reader yields entries behind a place (score and id), never behind a position, so that a job that leaves meanwhile
makes no other be missed. Nothing reads the key space.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from heapq import merge
from itertools import islice
from typing import Any

from trackdesk_producer.contract.record import JobClass, JobRecord, State
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.store.dead_letters.causes import Cause, IndexEntry, merged_page, read_causes
from trackdesk_worker.store.dead_letters.query import Hit, Search, SearchUnclear
from trackdesk_worker.store.job_store import JobStore

BATCH = 500
"""Index entries or records per round trip."""
FEW = 4_000
"""Dead letters of one index that are read at once and sorted here, where the order is another index's."""
SETS = 1_000
"""Sorted sets that one call of the script merges into one order: a few ms of the store's time."""

Place = tuple[str, str]
"""Score and id of an entry."""
IndexReader = Callable[[Place | None, int], list[IndexEntry]]
"""Takes the place of the entry before and the most to return; an empty list is the end."""


def index_reader(store: JobStore, wanted: Search, state: State) -> IndexReader:
    """Return what reads one state's entries, in the order wanted, behind a place."""
    scale = 1
    match state:
        case State.DEAD:
            return _dead_reader(store, wanted)
        case State.READY:
            tenants = [wanted.tenant] if wanted.tenant else store.tenants()
            sets = tuple(store.keys.ready(tenant, job_class) for tenant in tenants for job_class in JobClass)
            scale = 1000
        case State.SCHEDULED:
            sets = (store.keys.scheduled,)
        case State.IN_FLIGHT:
            sets = (store.keys.in_flight,)
        case State.DELIVERED | State.CANCELLED | State.DISCARDED:
            return _ended_reader(store, wanted)
    low, high = _bounds(wanted.since_ms, wanted.until_ms, scale)
    return _set_reader(store, wanted.down, sets, low, high)


def _dead_reader(store: JobStore, wanted: Search) -> IndexReader:
    by_cause = (wanted.tenant, wanted.reason, wanted.conversion_type, wanted.http_status, wanted.currency)
    if wanted.by_time and not any(by_cause) and not wanted.by_amount:
        return _set_reader(store, wanted.down, (store.keys.dead,), *_range(wanted, "died"))
    causes = [cause for cause in read_causes(store) if wanted.may_match(cause)]
    order, other = ("died", "amount") if wanted.by_time else ("amount", "died")
    if (wanted.by_amount if wanted.by_time else wanted.by_period) and count_within(store, wanted, causes, other) <= FEW:
        return _few(store, wanted, causes, other)
    low, high = _range(wanted, order)
    return _set_reader(store, wanted.down, tuple(store.keys.cause(c.number, order) for c in causes), low, high)


def _few(store: JobStore, wanted: Search, causes: list[Cause], other: str) -> IndexReader:
    """Return a reader of dead letters that are found through one index and sorted here as another one would be."""
    low, high = _range(wanted, other)
    read = _set_reader(store, wanted.down, tuple(store.keys.cause(c.number, other) for c in causes), low, high)
    entries = [index_entry(hit, wanted) for hit in read_records(store, read(None, FEW + BATCH))]
    entries.sort(key=place_of, reverse=wanted.down)

    def behind(after: Place | None, most: int) -> list[IndexEntry]:
        return entries_behind(entries, after, wanted.down)[:most]

    return behind


def _ended_reader(store: JobStore, wanted: Search) -> IndexReader:
    """Return what reads the lists that tombstones are pruned by, one list after the other."""
    if not wanted.by_time:
        raise SearchUnclear("only dead letters are sorted by amount")
    filed: Any = store.client.zrange(store.keys.tombstones, 0, -1)
    hours = [text(hour) for hour in filed]
    if wanted.down:
        hours.reverse()

    def read(after: Place | None, most: int) -> list[IndexEntry]:
        hour, place = ("", -1)
        if after is not None:
            hour, place = after[0].partition("+")[0], int(after[0].partition("+")[2])
        for candidate in hours[hours.index(hour) :] if hour in hours else hours:
            key = store.keys.tombstone_bucket(candidate)
            if candidate != hour:
                place = store.client.llen(key) if wanted.down else -1
            first, last = (max(0, place - most), place - 1) if wanted.down else (place + 1, place + most)
            found: Any = store.client.lrange(key, first, last) if last >= first else []
            entries = [IndexEntry(text(raw), first + n, f"{candidate}+{first + n}") for n, raw in enumerate(found)]
            if entries:
                return entries[::-1] if wanted.down else entries
        return []

    return read


def _set_reader(store: JobStore, down: bool, sets: tuple[str, ...], low: str, high: str) -> IndexReader:
    """Return what reads any number of sorted sets in one order."""
    parts = [sets[start : start + SETS] for start in range(0, len(sets), SETS)]

    def read(after: Place | None, most: int) -> list[IndexEntry]:
        pages = [merged_page(store, part, down=down, low=low, high=high, after=after, limit=most) for part in parts]
        return list(islice(merge(*pages, key=place_of, reverse=down), most))

    return read


def count_within(store: JobStore, wanted: Search, causes: list[Cause], order: str) -> int:
    """Count the entries of some causes within the range of the search, in the index ``died`` or ``amount``."""
    low, high = _range(wanted, order)
    with store.client.pipeline(transaction=False) as pipeline:
        for cause in causes:
            pipeline.zcount(store.keys.cause(cause.number, order), low, high)
        return sum(pipeline.execute())


def read_records(store: JobStore, entries: list[IndexEntry]) -> Iterator[Hit]:
    """Yield the jobs of entries; one without a record, or with an unreadable one, is left out."""
    if not entries:
        return
    records: Any = store.client.mget([store.keys.job(entry.id) for entry in entries])
    for entry, raw in zip(entries, records, strict=True):
        if raw is None:
            continue
        try:
            record = JobRecord.parse(entry.id, raw)
        except (ValueError, ArithmeticError):  # damaged from outside: the audit names it, the others are still read
            continue
        yield Hit(record, entry)


def index_entry(hit: Hit, wanted: Search) -> IndexEntry:
    """Return the entry that a job would have in an index of the order wanted."""
    score: Decimal | int = hit.at_ms if wanted.by_time else (-1 if hit.amount is None else hit.amount)
    return IndexEntry(hit.id, float(score), repr(float(score)))


def place_of(entry: IndexEntry) -> tuple[float, bytes]:
    """Return what indexes are sorted by."""
    return entry.score, entry.id.encode()


def entries_behind(entries: list[IndexEntry], after: Place | None, down: bool) -> list[IndexEntry]:
    """Return the entries behind a place, in the direction they are sorted."""
    if after is None:
        return entries
    place = (float(after[0]), after[1].encode())
    return [e for e in entries if (place_of(e) < place if down else place_of(e) > place)]


def _range(wanted: Search, order: str) -> tuple[str, str]:
    if order == "amount":
        return _bounds(wanted.min_amount, wanted.max_amount)
    return _bounds(wanted.since_ms, wanted.until_ms)


def _bounds(least: Decimal | int | None, most: Decimal | int | None, scale: int = 1) -> tuple[str, str]:
    """Return a range of scores. Amounts are compared exactly later: here as the doubles that scores are."""
    low = "-inf" if least is None else repr(float(least) * scale)
    high = "+inf" if most is None else repr(float(most) * scale + (scale - 1))
    return low, high
