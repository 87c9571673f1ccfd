"""The chain over the audit log: each entry carries the hash of the one before, and its own.

An entry that is changed, removed, inserted or moved breaks every hash behind it; a log that was cut at its end
disagrees with the stored head. With write access one could compute a whole new chain: to notice that, keep the head
that an audit printed in another place, and pass it to a later audit.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

START = "0" * 64
"""What the first entry is chained to."""


def link(entry: dict[str, Any], last: bytes | None) -> tuple[str, str]:
    """Return `entry` as it is stored behind `last`, and its hash."""
    previous = START if last is None else _hash_of(last)
    text = json.dumps({**entry, "prev": previous}, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-1]},"hash":"{digest}"}}', digest


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """What reading the chain to its end found."""

    entries: int
    head: str
    """Hash of the last entry."""
    broken_at: int | None
    """Number of the first entry, from 1, that is not as it was written; None: the chain is whole."""
    met: bool
    """Whether the hash that was looked for is in the chain; True if none was."""


def follow(entries: Iterable[bytes], *, sought: str | None = None) -> ChainVerdict:
    """Check entries in their order, in flat memory."""
    previous, number, met = START, 0, sought in (None, START)
    broken_at: int | None = None
    for number, raw in enumerate(entries, start=1):
        digest = _hash_of(raw)
        if broken_at is None and not _sound(raw, previous, digest):
            broken_at = number
        met = met or digest == sought
        previous = digest
    return ChainVerdict(number, previous, broken_at, met)


def _hash_of(raw: bytes) -> str:
    """Return the hash an entry claims; of one that claims none, the hash of all of it."""
    _, mark, claimed = raw.rpartition(b',"hash":"')
    if mark and len(claimed) == 66 and claimed.endswith(b'"}'):
        return claimed[:-2].decode("ascii", "replace")
    return hashlib.sha256(raw).hexdigest()


def _sound(raw: bytes, previous: str, claimed: str) -> bool:
    text = raw.rpartition(b',"hash":"')[0] + b"}"
    if hashlib.sha256(text).hexdigest() != claimed:
        return False
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and entry.get("prev") == previous
