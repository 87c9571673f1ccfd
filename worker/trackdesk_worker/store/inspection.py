"""Seeing a job whole: its record and every index that holds it, at one moment, without changing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import JobRecord, State
from trackdesk_producer.contract.scripts import Argument, ScriptCall, clock, text
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.jobs import reading_script

_NO_STRING = b"!"


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """One job as it was read. Ids are bytes: what is to be found may be anything."""

    id: bytes
    raw: bytes | None
    """The record as stored; None if there is none."""
    typed: bool
    """False if the key of the record holds no string."""
    indexes: Mapping[str, float]
    """Index → score, of those that hold the job; index names are keys without the prefix."""
    cause: str | None = None
    """Number of the cause it is filed under as a dead letter."""
    cause_name: str | None = None
    references: frozenset[str] = frozenset()
    """Those of its entries of `dead_references` that are there."""
    edited: str | None = None
    """Fingerprint of its body, if an operator corrected it."""


def inspect(store: JobStore, wanted: Sequence[tuple[bytes, str]]) -> list[JobSnapshot]:
    """See jobs by id, each also in one more index if one is named. One job is one moment, not all of them."""
    arguments: list[Argument] = [clock(None)]
    for identity, index in wanted:
        arguments += (identity, index)

    def read(reply: list[list[Any]]) -> list[JobSnapshot]:
        return [_job_snapshot(identity, found) for (identity, _), found in zip(wanted, reply, strict=True)]

    return store.run(ScriptCall(reading_script("inspect"), store.keys.prefix, tuple(arguments), read))


def expected_indexes(record: JobRecord) -> dict[str, int]:
    """Return index → score as the record says it must be."""
    match record.state:
        case State.READY:
            return {f"{NAMES['ready']}{record.tenant}:{record.job_class}": record.at}
        case State.SCHEDULED:
            return {NAMES["scheduled"]: record.at}
        case State.IN_FLIGHT:
            return {NAMES["in_flight"]: record.at}
        case State.DEAD:
            return {NAMES["dead"]: record.at}
        case State.DELIVERED | State.CANCELLED | State.DISCARDED:
            return {}


def _job_snapshot(identity: bytes, found: list[Any]) -> JobSnapshot:
    raw, cause, cause_name, held, edited, *pairs = found
    indexes = {text(pairs[i]): float(pairs[i + 1]) for i in range(0, len(pairs), 2)}
    return JobSnapshot(
        identity,
        raw,
        raw != _NO_STRING,
        indexes,
        text(cause) or None,
        text(cause_name) or None,
        frozenset(text(reference) for reference in held),
        text(edited) or None,
    )
