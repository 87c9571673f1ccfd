"""Reading the dead letters: filtered, paged, in flat memory, while other processes bury and redrive.

Every read goes through the indexes: all dead letters by the time they died, and the same by tenant and reason.
Pages are found by the last entry of the page before (time and id), never by a position, so that letters that leave
meanwhile make nobody miss another. A filter by type reads the records behind the index.
"""

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

import redis

from trackdesk_producer.contract.job import NO_CURRENCY, JobRecord, State
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.scripts import text

BATCH = 500
"""Index entries or records per round trip."""


class DeadLettersUnreadable(ValueError):
    """A cursor that no page of dead letters ended with."""


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters are meant; None stands for all. Times are Unix milliseconds, both ends included."""

    tenant: str | None = None
    reason: str | None = None
    conversion_type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def __str__(self) -> str:
        parts = [
            f"{name} {value}"
            for name, value in (
                ("tenant", self.tenant),
                ("reason", self.reason),
                ("type", self.conversion_type),
                ("died at or after", self.since_ms),
                ("died at or before", self.until_ms),
            )
            if value is not None
        ]
        return ", ".join(parts) or "all"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, with the body that was not delivered."""

    record: JobRecord
    conversion_type: str

    @property
    def id(self) -> str:
        """The job's identity."""
        return self.record.id

    @property
    def reason(self) -> str:
        """Why it died; the reason of its last attempt."""
        return self.record.reason or "-"

    @property
    def died_ms(self) -> int:
        """When it died."""
        return self.record.at

    @property
    def amount(self) -> Decimal | None:
        """The money that waits, None if the conversion names none."""
        return self.record.amount

    @property
    def currency(self) -> str | None:
        """Its ISO 4217 code, None if the conversion names none."""
        return None if self.record.currency == NO_CURRENCY else self.record.currency


@dataclass(frozen=True, slots=True)
class DeadPage:
    """Some dead letters, and where to go on."""

    letters: tuple[DeadLetter, ...]
    cursor: str | None
    """For the next page; None if this was the last one."""


class _Entry(NamedTuple):
    """One entry of an index, in the order of Redis: by time, then by the bytes of the id."""

    died_ms: int
    member: bytes


def read_page(
    client: redis.Redis, keys: Keys, wanted: DeadFilter, *, limit: int = 100, after: str | None = None
) -> DeadPage:
    """Return up to `limit` dead letters, the youngest first.

    Raises:
        DeadLettersUnreadable: if `after` is not a page's cursor.
    """
    start = None if after is None else _parse_cursor(after)
    letters = list(islice(_walk(client, keys, wanted, newest_first=True, after=start), limit + 1))
    more = len(letters) > limit
    letters = letters[:limit]
    cursor = f"{letters[-1].died_ms}:{letters[-1].id}" if more and letters else None
    return DeadPage(tuple(letters), cursor)


def walk(client: redis.Redis, keys: Keys, wanted: DeadFilter) -> Iterator[DeadLetter]:
    """Yield every dead letter of the filter, the oldest first, in flat memory.

    Each that was dead from the beginning to the end of the walk is yielded exactly once.
    """
    return _walk(client, keys, wanted, newest_first=False, after=None)


def read_letters(client: redis.Redis, ids: Iterable[str], keys: Keys) -> Iterator[DeadLetter]:
    """Yield the dead letters among `ids`; the others are left out."""
    iterator = iter(ids)
    while batch := list(islice(iterator, BATCH)):
        yield from _letters(client, keys, batch)


def group_sizes(client: redis.Redis, keys: Keys) -> dict[tuple[str, str], int]:
    """Return the number of dead letters by tenant and reason, without reading them."""
    sizes = {}
    for raw_name, raw_count in client.hgetall(keys.dead_groups).items():
        tenant, _, reason = text(raw_name).partition(":")
        sizes[tenant, reason] = int(raw_count)
    return sizes


def _walk(
    client: redis.Redis, keys: Keys, wanted: DeadFilter, *, newest_first: bool, after: _Entry | None
) -> Iterator[DeadLetter]:
    streams = [_entries(client, key, wanted, newest_first, after) for key in _indexes(client, keys, wanted)]
    merged = iter(streams[0]) if len(streams) == 1 else heapq.merge(*streams, reverse=newest_first)
    while batch := [entry.member.decode() for entry in islice(merged, BATCH)]:
        for letter in _letters(client, keys, batch):
            if _matches(letter, wanted):
                yield letter


def _indexes(client: redis.Redis, keys: Keys, wanted: DeadFilter) -> list[str]:
    """Return the smallest set of indexes that holds everything the filter means."""
    if wanted.tenant is None and wanted.reason is None:
        return [keys.dead]
    if wanted.tenant is not None and wanted.reason is not None:
        return [keys.dead_group(wanted.tenant, wanted.reason)]
    return [
        keys.dead_group(tenant, reason)
        for tenant, reason in sorted(group_sizes(client, keys))
        if wanted.tenant in (None, tenant) and wanted.reason in (None, reason)
    ]


def _entries(
    client: redis.Redis, key: str, wanted: DeadFilter, newest_first: bool, after: _Entry | None
) -> Iterator[_Entry]:
    """Yield one index's entries behind `after`.

    Many letters may have died in one millisecond, and their places shift when one leaves. So each read starts
    again at the time of the last entry and drops what was seen; it doubles until it reaches beyond.
    """
    count = BATCH
    while True:
        start = after.died_ms if after else None
        low = wanted.since_ms if newest_first or start is None else start
        high = start if newest_first and start is not None else wanted.until_ms
        bounds = ["-inf" if low is None else low, "+inf" if high is None else high]
        if newest_first:
            bounds.reverse()
        reply: Any = client.zrange(
            key, bounds[0], bounds[1], desc=newest_first, byscore=True, offset=0, num=count, withscores=True
        )
        page = [_Entry(int(score), member) for member, score in reply]
        fresh = page if after is None else [e for e in page if (e < after if newest_first else e > after)]
        yield from fresh
        if len(page) < count:
            return
        if fresh:
            after, count = fresh[-1], BATCH
        else:
            count *= 2


def _letters(client: redis.Redis, keys: Keys, ids: list[str]) -> Iterator[DeadLetter]:
    records: Any = client.mget([keys.job(identity) for identity in ids])
    for identity, raw in zip(ids, records, strict=True):
        if raw is None:
            continue
        try:
            record = JobRecord.parse(identity, raw)
        except ValueError:  # damaged from outside: the audit names it, the others are still read
            continue
        if record.state is State.DEAD:
            yield DeadLetter(record, _type_of(record.body))


def _type_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["conversionTypeCode"])
    except (ValueError, KeyError, TypeError):
        return "-"


def _matches(letter: DeadLetter, wanted: DeadFilter) -> bool:
    # Everything is asked again: between index and record the job may have been redriven and have died anew.
    return (
        wanted.tenant in (None, letter.record.tenant)
        and wanted.reason in (None, letter.reason)
        and wanted.conversion_type in (None, letter.conversion_type)
        and (wanted.since_ms is None or letter.died_ms >= wanted.since_ms)
        and (wanted.until_ms is None or letter.died_ms <= wanted.until_ms)
    )


def _parse_cursor(cursor: str) -> _Entry:
    died, _, identity = cursor.partition(":")
    if not (died.isascii() and died.isdigit() and len(died) < 16 and identity):
        raise DeadLettersUnreadable("the cursor is not one that a page of dead letters ended with")
    return _Entry(int(died), identity.encode())
