"""The durable record of one conversion, as Redis stores it and as callers see it.

A record is one Redis string: a header line of space-separated words, a line feed, and the body that
goes to Trackdesk (the guide's POST body). Text, because it is compact, because Lua and Python read it
with the same few lines, and because an engineer can read it with ``redis-cli GET``. When a job ends,
the record shrinks to a tombstone (`tombstone.py`): one short line and no body, so that personal data leaves with the
delivery while dedupe, the books and ``trackdesk show`` still know how it ended.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Self

from trackdesk_producer.contract.doubt import Content, read_doubt
from trackdesk_producer.contract.tombstone import lua_ends, read_tombstone
from trackdesk_producer.contract.trace import NO_TRACE

FORMAT_LIVE = "1"
FORMAT_TOMBSTONE = "t1"

LIVE_FIELDS = (
    "format",
    "state",
    "job_class",
    "fingerprint",
    "amount",
    "currency",
    "accepted",
    "at",
    "attempts",
    "attempts_total",
    "token",
    "ambiguous",
    "strikes",
    "epoch",
    "redrives",
    "reason",
    "trace",
    "doubt",
    "refused",
)
"""Header words of a live record, in order; the Lua library gets the same list.

``at`` is the job's score in the index of its state: ready since (µs), due (ms), end of the lease (ms),
died (ms). ``attempts`` counts the present budget, ``attempts_total`` all requests; ``epoch`` (ms) is when
the present budget began; ``strikes`` counts consecutive attempts that ended with ``reason``; ``ambiguous``
is 1 once an attempt may have landed, and ``doubt`` (`doubt.py`) names the contents with which one may; ``refused`` is
when (ms) Trackdesk first said "already exists" while nothing was in doubt; ``trace`` is the W3C traceparent of the
enqueue (`trace.py`), no part of the fingerprint. ``-`` means no value.
"""

_NUMBERS = frozenset(
    ("accepted", "at", "attempts", "attempts_total", "token", "ambiguous", "strikes", "epoch", "redrives")
)
"""Words that are whole numbers. The scripts count on it: an error halfway through a batch cannot be taken back."""

LIVE_BASE = LIVE_FIELDS.index("trace")
"""Words that every live record has. Those behind were added later, each with ``-`` for its absence: a record of an
older release has fewer, one of a newer release more. The scripts keep them as they are, in one piece (``job.more``)."""

FORMATS: dict[str, tuple[tuple[str, ...], int]] = {
    FORMAT_LIVE: (LIVE_FIELDS, LIVE_BASE),
}
"""Every format of live records this release reads: its header words, and how many of them a record has at least."""

TOMBSTONE_FORMATS = {FORMAT_TOMBSTONE}
"""The same for tombstones (`tombstone.py`).

This release writes `FORMAT_LIVE` and `FORMAT_TOMBSTONE`. A release that brings a new format reads both and still writes
the old one; the release after it writes the new one: so two neighbouring releases always read each other
(docs/guides/upgrade.md). A format is a number, a tombstone's with a ``t`` before it.
"""

_FORMAT = re.compile(rb"(t?[0-9]+)(?: |$)")


class RecordNewer(ValueError):
    """A newer release wrote the record; this one cannot read it, and leaves it alone."""


def is_newer(raw: bytes) -> bool:
    """Return whether a record is of a format that this release does not know, and a newer one may."""
    found = _FORMAT.match(raw)
    return found is not None and found[1].decode() not in FORMATS.keys() | TOMBSTONE_FORMATS


NO_CURRENCY = "XXX"
"""ISO 4217 for "no currency": the column of the books for amounts that came without one."""


class State(StrEnum):
    """Where a job is; always exactly one."""

    READY = "ready"
    SCHEDULED = "scheduled"
    IN_FLIGHT = "in_flight"
    DEAD = "dead"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"

    @property
    def terminal(self) -> bool:
        """Whether the job has ended and only its tombstone is left."""
        return self in (State.DELIVERED, State.CANCELLED, State.DISCARDED)


class JobClass(StrEnum):
    """Why a job is ready; decides its share of a tenant's budget."""

    LIVE = "live"
    RETRY = "retry"
    REDRIVE = "redrive"


def job_id(tenant: str, external_id: str, conversion_type: str | None = None) -> str:
    """Return the identity of a job, on which enqueue dedupes.

    ``<tenant>/<externalId>``, or, for tenants that reuse order ids across types, with the type and a
    control character between, which neither part can contain: so no two identities are ever equal.
    """
    if conversion_type is None:
        return f"{tenant}/{external_id}"
    return f"{tenant}/{conversion_type}\x1f{external_id}"


def tenant_of(identity: str) -> str:
    """Return the tenant of a job id."""
    return identity.partition("/")[0]


def external_id_of(identity: str) -> str:
    """Return the externalId of a job id."""
    rest = identity.partition("/")[2]
    return rest.rpartition("\x1f")[2]


def type_of(identity: str) -> str | None:
    """Return the conversion type of a job id, if it is part of the identity."""
    conversion_type, mark, _ = identity.partition("/")[2].partition("\x1f")
    return conversion_type if mark else None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One record, read. Times are Unix milliseconds unless named otherwise."""

    id: str
    state: State
    job_class: JobClass | None
    fingerprint: str
    amount: Decimal | None
    currency: str | None
    accepted_ms: int
    at: int
    attempts: int
    attempts_total: int
    token: int
    ambiguous: bool
    strikes: int
    epoch_ms: int
    redrives: int
    reason: str | None
    trace: str
    doubt: tuple[Content, ...]
    """Contents that may be at Trackdesk; of one tried by an older release none is named, though `ambiguous`."""
    refused: bool
    body: bytes

    @classmethod
    def parse(cls, identity: str, raw: bytes) -> Self:
        """Read a record as stored.

        Raises:
            RecordNewer: if a newer release wrote it.
            ValueError: if the bytes are no record at all.
        """
        if is_newer(raw):
            raise RecordNewer(f"the record of {identity!r} was written by a newer release of trackdesk: use that one")
        head, _, body = raw.partition(b"\n")
        text = head.decode("ascii", "strict")
        words = text.split(" ")
        names, base = FORMATS.get(words[0], ((), 0))
        if words[0] in TOMBSTONE_FORMATS:
            field = read_tombstone(text)
        elif names and len(words) >= base:
            field = dict(zip(names, words, strict=False))
        else:
            raise ValueError(f"job {identity!r} has a record of an unknown format")

        def optional(name: str) -> str | None:
            return None if field.get(name, "-") == "-" else field[name]

        amount = optional("amount")
        job_class = optional("job_class")
        return cls(
            id=identity,
            state=State(field["state"]),
            job_class=None if job_class is None else JobClass(job_class),
            fingerprint=field["fingerprint"],
            amount=None if amount is None else Decimal(amount),
            currency=optional("currency"),
            accepted_ms=int(field["accepted"]),
            at=int(field["at"]),
            attempts=int(field.get("attempts", 0)),
            attempts_total=int(field["attempts_total"]),
            token=int(field.get("token", 0)),
            ambiguous=field.get("ambiguous") == "1",
            strikes=int(field.get("strikes", 0)),
            epoch_ms=int(field.get("epoch", field["accepted"])),
            redrives=int(field.get("redrives", 0)),
            reason=optional("reason"),
            trace=field.get("trace", NO_TRACE),
            doubt=read_doubt(field.get("doubt", "-")),
            refused=field.get("refused", "-") != "-",
            body=body,
        )

    def may_have_landed(self, restored_ms: int) -> bool:
        """Return whether the sale may be at Trackdesk, if the tenant's store was restored then (-1: never)."""
        if self.state.terminal:
            return self.ambiguous
        forgotten = self.accepted_ms <= restored_ms and (self.redrives == 0 or self.epoch_ms <= restored_ms)
        return self.ambiguous or forgotten

    @property
    def tenant(self) -> str:
        """The tenant whose Trackdesk gets the conversion."""
        return tenant_of(self.id)

    @property
    def external_id(self) -> str:
        """The caller's id of the sale, which is also Trackdesk's idempotency key."""
        return external_id_of(self.id)


def lua_values() -> dict[str, str]:
    """Return the lists of header words in Lua, by the names under which the library files insert them (``@name@``)."""
    later = LIVE_FIELDS[LIVE_BASE:]
    return {
        "live_format": FORMAT_LIVE,
        "readers": "\n  else".join(
            [
                *(_lua_reader(name, fields[1:base]) for name, (fields, base) in FORMATS.items()),
                *(f"if format == '{name}' then\n    job = read_tombstone(raw, format)" for name in TOMBSTONE_FORMATS),
            ]
        ),
        "words": " .. ' ' .. ".join(f"job.{name}" for name in LIVE_FIELDS[1:LIVE_BASE]),
        "later_patterns": ", ".join(f"{name} = '^{' %S+' * place} (%S+)'" for place, name in enumerate(later)),
        "later_places": ", ".join(f"{name} = {place}" for place, name in enumerate(later, 1)),
        "tombstone_format": FORMAT_TOMBSTONE,
        **lua_ends(),
    }


def _lua_reader(name: str, words: tuple[str, ...]) -> str:
    """Return the branch that reads one format."""
    captures = " ".join("(%d+)" if word in _NUMBERS else "(%S+)" for word in words)
    fields = ", ".join(f"{word} = {word}" for word in words)
    return f"""if format == '{name}' then
    local {", ".join(words)}, more, body = string.match(raw, '^{name} {captures}([^\\n]*)\\n?()')
    if body and (amount == '-' or string.find(amount, '^%d+%.?%d*$')) then
      job = {{ format = format, {fields}, more = more, body = string.sub(raw, body) }}
    end"""
