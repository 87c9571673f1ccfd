"""Reads everything about one sale."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.record import JobRecord, RecordNewer, State
from trackdesk_worker.ops.audit_log import Act, Operator, record
from trackdesk_worker.ops.lookup import SaleUnknown
from trackdesk_worker.store.job_store import JobStore

MASK = "•••"
PERSONAL = ("cid", "customerId")
"""Personal data, besides every custom parameter: whose click it was, and who bought."""


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One job, its conversion and its history."""

    record: JobRecord
    conversion: Mapping[str, Any] | None
    """The body for Trackdesk, masked unless revealed; None once the job has ended."""
    history: tuple[Mapping[str, Any], ...]
    """Attempts and operators' actions, the newest last; empty once the job has ended."""

    @property
    def dead(self) -> bool:
        """Whether the job is a dead letter."""
        return self.record.state is State.DEAD


def read_job(store: JobStore, identity: str, *, reveal_to: Operator | None = None) -> JobDetail:
    """Return one job. Personal data is masked unless it is revealed to an operator, which is audited first.

    Raises:
        SaleUnknown: if the job is gone, or its record cannot be read.
    """
    raw, entries = store.transaction(
        [("GET", store.keys.job(identity)), ("LRANGE", store.keys.history(identity), 0, -1)]
    )
    if raw is None:
        raise SaleUnknown("the sale was just pruned: its dedupe window is over")
    try:
        found = JobRecord.parse(identity, raw)
        conversion = json.loads(found.body) if found.body else None
        history = tuple(_entry(raw) for raw in entries)
    except RecordNewer as error:
        raise SaleUnknown(str(error)) from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise SaleUnknown("the record of this sale cannot be read; run `trackdesk audit`") from error
    if reveal_to is not None:
        about = {"tenant": found.tenant, "external_id": found.external_id}
        record(store, Act.REVEAL, reveal_to, count=1, jobs=[about])
    elif conversion is not None:
        conversion = masked(conversion)
    return JobDetail(found, conversion, history)


def _entry(raw: bytes) -> Mapping[str, Any]:
    entry = json.loads(raw)
    if not isinstance(entry, dict) or type(entry.get("at_ms")) is not int:
        raise ValueError("an entry of the history is not a JSON object with a time")
    return entry


def masked(conversion: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with personal data masked."""
    shown = {name: MASK if name in PERSONAL else value for name, value in conversion.items()}
    if "customParams" in shown:
        shown["customParams"] = dict.fromkeys(shown["customParams"], MASK)
    return shown


def moments(record: JobRecord) -> dict[str, int]:
    """Return the times of a record by name, in ms."""
    match record.state:
        case State.READY:
            return {"accepted": record.accepted_ms, "ready_since": record.at // 1000}
        case State.SCHEDULED:
            return {"accepted": record.accepted_ms, "due": record.at}
        case State.IN_FLIGHT:
            return {"accepted": record.accepted_ms, "lease_ends": record.at}
        case State.DEAD:
            return {"accepted": record.accepted_ms, "died": record.at}
        case State.DELIVERED | State.CANCELLED | State.DISCARDED:
            return {"accepted": record.accepted_ms, "ended": record.at}


def flat(body: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return a body's values as text by the guide's dotted names (``amount.value``), as the guide's GET has them."""
    found: dict[str, str | list[str]] = {}
    for name, value in body.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": str(text) for inner, text in value.items()}
        elif isinstance(value, list):
            found[name] = [str(part) for part in value]
        else:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def flat_text(body: Mapping[str, Any], separator: str) -> dict[str, str]:
    """Return `flat` with the parts of a list joined."""
    return {name: separator.join(v) if isinstance(v, list) else v for name, v in flat(body).items()}
