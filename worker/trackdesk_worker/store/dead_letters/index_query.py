"""Finding sales by what is known of them: which index to read, from where, and what to ask of each record.

Never the key space: dead letters through their causes, their amounts and what a person may be found by; jobs in the
other states through the index of their state, which knows only their time, so that a rare wish is read in several
goes. Pages are found by the last entry of the merged_page before (score and id), never by a position, so that jobs that
leave meanwhile make nobody miss another.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from heapq import merge
from itertools import islice
from typing import Any

from trackdesk_producer.contract.record import JobClass, JobRecord, State, job_id
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.store.dead_letters.causes import Cause, IndexEntry, merged_page, read_causes, reference
from trackdesk_worker.store.dead_letters.query import Hit, Search, SearchUnclear, matches
from trackdesk_worker.store.job_store import JobStore

BATCH = 500
"""Index entries or records per round trip."""
LEAST_BATCH = 20
FEW = 4_000
"""Letters of one index that are read at once and sorted here, where the order is another index's."""
SETS = 1_000
"""Sorted sets that one call of the script merges into one order: a few ms of the store's time."""

ENDED = (State.DELIVERED, State.CANCELLED, State.DISCARDED)


@dataclass(frozen=True, slots=True)
class Hits:
    """Sales that were found, and where to go on."""

    hits: tuple[Hit, ...]
    cursor: str | None
    """For what is behind; None if this was all."""
    examined: int
    complete: bool
    """False if time ran out before the merged_page was full: the cursor goes on; without one, name a tenant."""


def find(
    store: JobStore,
    wanted: Search,
    *,
    limit: int,
    after: str | None = None,
    within_s: float | None = None,
) -> Hits:
    """Return the next `limit` sales of a search, reading for about `within_s`.

    Raises:
        SearchUnclear: if it cannot be answered like this, or `after` is no merged_page's cursor.
    """
    deadline = None if within_s is None else time.monotonic() + within_s
    if wanted.by_person and not _through_index(wanted):
        return _sorted_page(store, wanted, limit, after, deadline)
    sections = _sections(wanted)
    section, place = (sections[0], None) if after is None else _parse_cursor(after, sections)
    hits: list[Hit] = []
    examined = 0
    for state in sections[sections.index(section) :]:
        reader = _reader(store, wanted, state)
        most = max(limit + 1, LEAST_BATCH)
        while True:
            asked = min(BATCH, most)
            entries = reader(place, asked)
            most *= 2  # what matches is rare
            for hit in _read(store, entries):
                if not _as_indexed(hit, state, wanted) or not matches(hit, wanted):
                    continue
                if len(hits) == limit:
                    return Hits(tuple(hits), _cursor(hits[-1].record.state, hits[-1].entry), examined, True)
                hits.append(hit)
            examined += len(entries)
            if not entries or (len(entries) < asked and state not in ENDED):  # ended ones come list by list
                place = None
                break
            place = (entries[-1].exact, entries[-1].id)
            if deadline is not None and time.monotonic() > deadline:
                return Hits(tuple(hits), _cursor(state, entries[-1]), examined, len(hits) == limit)
    return Hits(tuple(hits), None, examined, True)


def walk(store: JobStore, wanted: Search) -> Iterator[Hit]:
    """Yield every sale of a search, the oldest first, in flat memory.

    Each that was dead from the beginning to the end of the walk is yielded exactly once.
    """
    cursor = None
    while True:
        hits = find(store, replace(wanted, order="oldest"), limit=BATCH, after=cursor)
        yield from hits.hits
        cursor = hits.cursor
        if cursor is None:
            return


def read_hits(store: JobStore, ids: Iterable[str]) -> Iterator[Hit]:
    """Yield the sales among `ids` that have a record."""
    wanted = list(ids)
    for start in range(0, len(wanted), BATCH):
        yield from _read(store, [IndexEntry(identity, 0, "0") for identity in wanted[start : start + BATCH]])


def count(store: JobStore, wanted: Search) -> int | None:
    """Return how many dead letters a search means, if the indexes know it without reading records."""
    if wanted.state is not State.DEAD or wanted.by_person:
        return None
    causes = [cause for cause in read_causes(store) if wanted.means(cause)]
    if wanted.conversion_type is not None and not all(cause.certain for cause in causes):
        return None
    if wanted.by_amount and wanted.by_period:
        return None
    if wanted.by_cause_only:
        return sum(cause.jobs for cause in causes)
    return _count_within(store, wanted, causes, "amount" if wanted.by_amount else "died")


def _as_indexed(hit: Hit, state: State, wanted: Search) -> bool:
    """Return whether the job is still where its index showed it; else it will be met at its new place."""
    if state in ENDED:
        return hit.record.state in ENDED
    if hit.record.state is not state:
        return False
    return not wanted.by_time or hit.record.at == int(hit.entry.score)


def _sections(wanted: Search) -> tuple[State, ...]:
    """Return the states to look through, in this order."""
    if wanted.state is not None:
        sections: tuple[State, ...] = (wanted.state,)
    elif wanted.http_status is not None:
        sections = (State.DEAD,)
    else:
        sections = (State.DEAD, State.IN_FLIGHT, State.SCHEDULED, State.READY)
        if not (wanted.conversion_type or wanted.cid or wanted.customer_id):
            sections += (State.DELIVERED,)  # its lists hold all that has ended
    if not wanted.by_time and sections != (State.DEAD,):
        raise SearchUnclear("only dead letters are sorted by amount: search the state dead, or sort by time")
    if wanted.http_status is not None and sections != (State.DEAD,):
        raise SearchUnclear("only dead letters are found by HTTP status: search the state dead")
    if wanted.state in ENDED and (wanted.conversion_type or wanted.cid or wanted.customer_id):
        raise SearchUnclear(
            "what has ended keeps no type, cid or customerId, which left with the delivery: search by externalId"
        )
    return sections


Reader = Callable[[tuple[str, str] | None, int], list[IndexEntry]]


def _reader(store: JobStore, wanted: Search, state: State) -> Reader:
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


def _set_reader(store: JobStore, down: bool, sets: tuple[str, ...], low: str, high: str) -> Reader:
    """Return what reads any number of sorted sets in one order."""
    parts = [sets[start : start + SETS] for start in range(0, len(sets), SETS)]

    def read(after: tuple[str, str] | None, most: int) -> list[IndexEntry]:
        pages = [merged_page(store, part, down=down, low=low, high=high, after=after, limit=most) for part in parts]
        return list(islice(merge(*pages, key=_sorting, reverse=down), most))

    return read


def _dead_reader(store: JobStore, wanted: Search) -> Reader:
    by_cause = (wanted.tenant, wanted.reason, wanted.conversion_type, wanted.http_status, wanted.currency)
    if wanted.by_time and not any(by_cause) and not wanted.by_amount:
        return _set_reader(store, wanted.down, (store.keys.dead,), *_range(wanted, "died"))
    causes = [cause for cause in read_causes(store) if wanted.means(cause)]
    order, other = ("died", "amount") if wanted.by_time else ("amount", "died")
    if (wanted.by_amount if wanted.by_time else wanted.by_period) and _count_within(
        store, wanted, causes, other
    ) <= FEW:
        return _few(store, wanted, causes, other)
    low, high = _range(wanted, order)
    return _set_reader(store, wanted.down, tuple(store.keys.cause(c.number, order) for c in causes), low, high)


def _few(store: JobStore, wanted: Search, causes: list[Cause], other: str) -> Reader:
    """Return what reads letters in one order which few enough fit into a range of another."""
    low, high = _range(wanted, other)
    read = _set_reader(store, wanted.down, tuple(store.keys.cause(c.number, other) for c in causes), low, high)
    entries = [_ordered(hit, wanted) for hit in _read(store, read(None, FEW + BATCH))]
    entries.sort(key=_sorting, reverse=wanted.down)

    def behind(after: tuple[str, str] | None, most: int) -> list[IndexEntry]:
        return _behind(entries, after, wanted.down)[:most]

    return behind


def _ended_reader(store: JobStore, wanted: Search) -> Reader:
    """Return what reads the lists that tombstones are pruned by, a list after the other."""
    if not wanted.by_time:
        raise SearchUnclear("only dead letters are sorted by amount")
    filed: Any = store.client.zrange(store.keys.tombstones, 0, -1)
    hours = [text(hour) for hour in filed]
    if wanted.down:
        hours.reverse()

    def read(after: tuple[str, str] | None, most: int) -> list[IndexEntry]:
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


def _through_index(wanted: Search) -> bool:
    """Return whether a person's click or customer is looked for where only the index of the state helps."""
    return wanted.external_id is None and wanted.state not in (State.DEAD, None)


def _named(store: JobStore, wanted: Search) -> Iterator[list[str]]:
    """Yield, in batches, the ids of the sales that an externalId, a click or a customer may mean."""
    if wanted.external_id is not None:
        tenants = [wanted.tenant] if wanted.tenant else store.tenants()
        types = {cause.conversion_type for cause in read_causes(store) if cause.certain}
        types |= {wanted.conversion_type} - {None}  # type: ignore[arg-type]
        kinds = [None, *sorted(types)]
        ids = (job_id(tenant, wanted.external_id, kind) for kind in kinds for tenant in tenants)
        while batch := list(islice(ids, BATCH)):
            yield batch
        return
    name, value = ("cid", wanted.cid) if wanted.cid is not None else ("customerId", wanted.customer_id)
    prefix = reference(name, value or "")
    first = f"[{prefix}".encode()
    while True:
        raw: Any = store.client.zrange(
            store.keys.dead_references, first, f"({prefix}\xff".encode("latin-1"), bylex=True, offset=0, num=BATCH
        )
        if not raw:
            return
        yield [text(entry)[len(prefix) :] for entry in raw]
        first = b"(" + raw[-1]


def _sorted_page(store: JobStore, wanted: Search, limit: int, after: str | None, deadline: float | None) -> Hits:
    """Return one merged_page of the few sales that one externalId, click or customer means, sorted here.

    A sale may be of any tenant, and of any type where the type widens the identity. Where time ends before all of them
    were looked up, the merged_page is not `complete` and has no cursor: a tenant, or more time, finds the rest.
    """
    place = None if after is None else _parse_cursor(after, tuple(State))[1]
    found: dict[str, tuple[IndexEntry, Hit]] = {}
    looked_up, complete = 0, True
    for ids in _named(store, wanted):
        if looked_up >= FEW and deadline is not None and time.monotonic() > deadline:
            complete = False
            break
        found |= {
            hit.id: (_ordered(hit, wanted), hit)
            for hit in read_hits(store, ids)
            if matches(hit, wanted) and (wanted.external_id is not None or hit.record.state is State.DEAD)
        }
        looked_up += len(ids)
    entries = sorted((entry for entry, _ in found.values()), key=_sorting, reverse=wanted.down)
    rest = _behind(entries, place, wanted.down)
    cursor = _cursor(State.DEAD, rest[limit - 1]) if len(rest) > limit else None
    hits = tuple(found[entry.id][1] for entry in rest[:limit])
    return Hits(hits, cursor, looked_up, complete)


def _ordered(hit: Hit, wanted: Search) -> IndexEntry:
    score: Decimal | int = hit.at_ms if wanted.by_time else (-1 if hit.amount is None else hit.amount)
    return IndexEntry(hit.id, float(score), repr(float(score)))


def _sorting(entry: IndexEntry) -> tuple[float, bytes]:
    return entry.score, entry.id.encode()


def _behind(entries: list[IndexEntry], after: tuple[str, str] | None, down: bool) -> list[IndexEntry]:
    if after is None:
        return entries
    place = (float(after[0]), after[1].encode())
    return [e for e in entries if (_sorting(e) < place if down else _sorting(e) > place)]


def _count_within(store: JobStore, wanted: Search, causes: list[Cause], order: str) -> int:
    low, high = _range(wanted, order)
    with store.client.pipeline(transaction=False) as pipeline:
        for cause in causes:
            pipeline.zcount(store.keys.cause(cause.number, order), low, high)
        return sum(pipeline.execute())


def _range(wanted: Search, order: str) -> tuple[str, str]:
    if order == "amount":
        return _bounds(wanted.min_amount, wanted.max_amount)
    return _bounds(wanted.since_ms, wanted.until_ms)


def _bounds(least: Decimal | int | None, most: Decimal | int | None, scale: int = 1) -> tuple[str, str]:
    """Return a range of scores. Amounts are compared exactly later: here as the doubles that scores are."""
    low = "-inf" if least is None else repr(float(least) * scale)
    high = "+inf" if most is None else repr(float(most) * scale + (scale - 1))
    return low, high


def _read(store: JobStore, entries: list[IndexEntry]) -> Iterator[Hit]:
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


def _cursor(state: State, entry: IndexEntry) -> str:
    return f"{state.value}:{entry.exact}:{entry.id}"


def _parse_cursor(cursor: str, sections: tuple[State, ...]) -> tuple[State, tuple[str, str]]:
    name, _, rest = cursor.partition(":")
    score, _, identity = rest.partition(":")
    if name in sections and identity and len(score) < 40:
        state = State(name)
        if state in ENDED:
            hour, plus, place = score.partition("+")
            if plus and hour.isascii() and hour.isdigit() and place.isascii() and place.isdigit():
                return state, (score, identity)
        else:
            try:
                if abs(float(score)) < 1e25:
                    return state, (score, identity)
            except ValueError:
                pass
    raise SearchUnclear("the cursor is not one that a merged_page of this search ended with")
