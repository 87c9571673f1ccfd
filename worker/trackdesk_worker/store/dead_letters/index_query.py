"""Answering a search of jobs, a page at a time.

Dead letters are found through their causes, amounts, cid and customerId; jobs in other states through the index of
their state, which orders them by time only, so that a rare match takes several requests. A page begins behind the last
entry of the page before.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from trackdesk_producer.contract.record import State, job_id
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.store.dead_letters.causes import IndexEntry, read_causes, reference
from trackdesk_worker.store.dead_letters.index_readers import (
    BATCH,
    Place,
    count_within,
    entries_behind,
    index_entry,
    index_reader,
    place_of,
    read_records,
)
from trackdesk_worker.store.dead_letters.query import Hit, Search, SearchUnclear, matches
from trackdesk_worker.store.job_store import JobStore

LEAST_BATCH = 20
LOOKED_UP = 4_000
"""Ids that a search by externalId, cid or customerId looks up whatever time that takes."""

ENDED = (State.DELIVERED, State.CANCELLED, State.DISCARDED)


@dataclass(frozen=True, slots=True)
class Hits:
    """Sales that were found, and where to go on."""

    hits: tuple[Hit, ...]
    cursor: str | None
    """For what is behind; None if this was all."""
    examined: int
    complete: bool
    """False if time ran out before the page was full: the cursor goes on; without one, name a tenant."""


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
        SearchUnclear: if it cannot be answered like this, or `after` is not a cursor of this search.
    """
    deadline = None if within_s is None else time.monotonic() + within_s
    if wanted.by_person and not _through_index(wanted):
        return _sorted_page(store, wanted, limit, after, deadline)
    sections = _sections(wanted)
    section, place = (sections[0], None) if after is None else _parse_cursor(after, sections)
    hits: list[Hit] = []
    examined = 0
    for state in sections[sections.index(section) :]:
        reader = index_reader(store, wanted, state)
        most = max(limit + 1, LEAST_BATCH)
        while True:
            asked = min(BATCH, most)
            entries = reader(place, asked)
            most *= 2  # what matches is rare
            for hit in read_records(store, entries):
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
        yield from read_records(store, [IndexEntry(identity, 0, "0") for identity in wanted[start : start + BATCH]])


def count(store: JobStore, wanted: Search) -> int | None:
    """Count the dead letters that match, if the indexes know it without reading records; else None."""
    if wanted.state is not State.DEAD or wanted.by_person:
        return None
    causes = [cause for cause in read_causes(store) if wanted.may_match(cause)]
    if wanted.conversion_type is not None and not all(cause.certain for cause in causes):
        return None
    if wanted.by_amount and wanted.by_period:
        return None
    if wanted.by_cause_only:
        return sum(cause.jobs for cause in causes)
    return count_within(store, wanted, causes, "amount" if wanted.by_amount else "died")


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
    """Return one page of the few sales of one externalId, click or customer, sorted here.

    A sale may be of any tenant, and of any type where the type widens the identity. Where time ends before all of them
    were looked up, the page is not `complete` and has no cursor: a tenant, or more time, finds the rest.
    """
    place = None if after is None else _parse_cursor(after, tuple(State))[1]
    found: dict[str, tuple[IndexEntry, Hit]] = {}
    looked_up, complete = 0, True
    for ids in _named(store, wanted):
        if looked_up >= LOOKED_UP and deadline is not None and time.monotonic() > deadline:
            complete = False
            break
        found |= {
            hit.id: (index_entry(hit, wanted), hit)
            for hit in read_hits(store, ids)
            if matches(hit, wanted) and (wanted.external_id is not None or hit.record.state is State.DEAD)
        }
        looked_up += len(ids)
    entries = sorted((entry for entry, _ in found.values()), key=place_of, reverse=wanted.down)
    rest = entries_behind(entries, place, wanted.down)
    cursor = _cursor(State.DEAD, rest[limit - 1]) if len(rest) > limit else None
    hits = tuple(found[entry.id][1] for entry in rest[:limit])
    return Hits(hits, cursor, looked_up, complete)


def _cursor(state: State, entry: IndexEntry) -> str:
    return f"{state.value}:{entry.exact}:{entry.id}"


def _parse_cursor(cursor: str, sections: tuple[State, ...]) -> tuple[State, Place]:
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
    raise SearchUnclear("the cursor is not one of this search")
