"""Dead letters by cause: each cause with its number, its jobs and its money, kept by the scripts that bury and redrive.

Reading them costs with the number of causes, not of dead letters.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

from trackdesk_producer.contract.constants import OTHER_TYPES, REFERENCE_DIGITS
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import Command
from trackdesk_producer.contract.scripts import ScriptCall, clock, text
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.jobs import reading_script
from trackdesk_worker.store.ledger import LIMB_EXPONENTS, Money

NONE = "-"
_SEPARATOR = "\x1f"
_EXACT_DIGITS = 60


def cause_words(name: str) -> tuple[str, str, str, str, str]:
    """Return a cause as it is stored: tenant, reason, status, currency, type; blanks where it is none."""
    words = [*name.split(_SEPARATOR, 4), "", "", "", ""]
    return words[0], words[1], words[2], words[3], words[4]


@dataclass(frozen=True, slots=True)
class Cause:
    """What dead letters have in common."""

    number: str
    tenant: str
    reason: str
    http_status: int | None
    """Of the last attempt; None if there was no answer."""
    currency: str | None
    """As the books name it: XXX for amounts without one; None for dead letters without an amount."""
    conversion_type: str
    jobs: int = 0
    money: Money = field(default_factory=dict)

    @property
    def certain(self) -> bool:
        """Whether all its dead letters have this type."""
        return self.conversion_type != OTHER_TYPES


def cause_commands(keys: Keys) -> tuple[Command, Command]:
    """Return the reads whose replies `parse_causes` takes; both of one moment, in a transaction."""
    return ("HGETALL", keys.causes), ("HGETALL", keys.cause_books)


def parse_causes(names: Mapping[bytes, bytes | None], books: Mapping[bytes, bytes]) -> list[Cause]:
    """Return the causes, the largest first."""
    jobs: Counter[str] = Counter()
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    with localcontext(prec=_EXACT_DIGITS):
        for raw_column, raw_value in books.items():
            number, _, column = raw_column.decode().partition(":")
            if column == "jobs":
                jobs[number] = int(raw_value)
            else:
                sums[number] += Decimal(int(raw_value)).scaleb(LIMB_EXPONENTS[column])
    found = []
    for raw_number, raw_name in names.items():
        number = raw_number.decode()
        if raw_name is None:  # its last dead letter left between two reads
            continue
        tenant, reason, status, currency, conversion_type = cause_words(raw_name.decode())
        found.append(
            Cause(
                number,
                tenant,
                reason,
                int(status) if status.isascii() and status.isdigit() else None,
                None if currency == NONE else currency,
                conversion_type,
                jobs[number],
                {currency: sums[number]} if sums[number] else {},
            )
        )
    return sorted(found, key=lambda c: (-c.jobs, c.tenant, c.reason, c.conversion_type, c.http_status or 0))


def read_causes(store: JobStore) -> list[Cause]:
    """Return every cause that has dead letters now, the largest first."""
    names, books = store.transaction(cause_commands(store.keys))
    return parse_causes(names, books)


def causes_of(store: JobStore, ids: Sequence[str]) -> dict[str, Cause]:
    """Return the causes of some dead letters, by job id."""
    if not ids:
        return {}
    numbers: Any = store.client.hmget(store.keys.cause_of, ids)
    filed = sorted({number for number in numbers if number is not None})
    names: Any = store.client.hmget(store.keys.causes, filed) if filed else []
    known = {c.number: c for c in parse_causes(dict(zip(filed, names, strict=True)), {})}
    return {
        identity: known[text(number)]
        for identity, number in zip(ids, numbers, strict=True)
        if number is not None and text(number) in known
    }


def reference(name: str, value: str) -> str:
    """Return what a person's cid or customerId is filed under; the id follows it."""
    digest = hashlib.sha1(f"{name}{_SEPARATOR}{value}".encode(), usedforsecurity=False).hexdigest()
    return digest[:REFERENCE_DIGITS]


def references(identity: str, conversion: Mapping[str, Any]) -> set[str]:
    """Return the entries of `dead_references` that a dead letter must have."""
    values = {name: conversion.get(name) for name in ("cid", "customerId")}
    return {reference(name, value) + identity for name, value in values.items() if isinstance(value, str)}


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One entry of an index."""

    id: str
    score: float
    exact: str
    """The score as the store writes it: for cursors."""


def merged_page(
    store: JobStore,
    sets: tuple[str, ...],
    *,
    down: bool,
    low: str = "-inf",
    high: str = "+inf",
    after: tuple[str, str] | None = None,
    limit: int = 500,
) -> list[IndexEntry]:
    """Read up to `limit` entries of several sorted sets (keys) in one order, behind `after` (score and id)."""
    score, identity = after or ("", "")
    names = tuple(name.removeprefix(store.keys.prefix) for name in sets)
    arguments = (clock(None), "down" if down else "up", low, high, score, identity, limit, *names)

    def read(reply: list[Any]) -> list[IndexEntry]:
        return [IndexEntry(text(reply[i]), float(reply[i + 1]), text(reply[i + 1])) for i in range(0, len(reply), 2)]

    return store.run(ScriptCall(reading_script("merge_page"), store.keys.prefix, arguments, read))
