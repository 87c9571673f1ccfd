"""Which contents of a job may be at Trackdesk: the record's word ``doubt``, and what an "already exists" proves.

An attempt that may have landed carried the content that the job had then. An operator may correct the content later.
So the record keeps every content in doubt, separated by commas: the beginning of its fingerprint, a colon, amount and
currency or ``-``; ``*`` before an entry says that the store may have forgotten what was sent (`trackdesk restored`),
and that this is the content it remembers.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from trackdesk_producer.contract.constants import FINGERPRINT_KEPT, FORGOTTEN

_ENTRY = re.compile(r"(\*?)([^:,]+):(?:([0-9.]+)([A-Z]+)|-)")


class Doubt(StrEnum):
    """What an "already exists" would prove of a job as it is now."""

    NONE = "none"
    """No attempt may have landed: another job or system recorded it."""
    SAME = "same"
    """Every attempt that may have landed carried the present content."""
    FORGOTTEN = "forgotten"
    """The same, as far as a restored store remembers."""
    OTHER = "other"
    """An attempt that may have landed carried other content."""


class Past(NamedTuple):
    """What earlier attempts of a job may have left at Trackdesk."""

    doubt: Doubt = Doubt.NONE
    refused: bool = False
    """Whether Trackdesk said "already exists" when nothing was in doubt."""


@dataclass(frozen=True, slots=True)
class Content:
    """A content that may be at Trackdesk."""

    fingerprint: str
    """Its first characters."""
    amount: Decimal | None
    currency: str | None
    forgotten: bool
    """Whether the store may have forgotten what was sent; this is then what it remembers."""


def read_doubt(word: str) -> tuple[Content, ...]:
    """Return the contents that the record's word names.

    Raises:
        ValueError: if it is no such word.
    """
    return () if word == "-" else tuple(map(_content, word.split(",")))


def doubt_of(contents: Collection[Content], fingerprint: str) -> Doubt:
    """Return what an "already exists" would prove of a job whose content has this fingerprint now."""
    if not contents:
        return Doubt.NONE
    if any(content.fingerprint != fingerprint[:FINGERPRINT_KEPT] for content in contents):
        return Doubt.OTHER
    return Doubt.FORGOTTEN if any(content.forgotten for content in contents) else Doubt.SAME


def read_past(words: str) -> Past:
    """Return what a claim says of a job's past: ``-``, or its content's fingerprint and the two words of the record."""
    if words == "-":
        return Past()
    fingerprint, doubt, refused = words.split(" ")
    return Past(doubt_of(read_doubt(doubt), fingerprint), refused != "-")


def _content(entry: str) -> Content:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise ValueError("that is no content in doubt")
    mark, fingerprint, amount, currency = found.groups()
    return Content(fingerprint, None if amount is None else Decimal(amount), currency, mark == FORGOTTEN)
