"""Everything about one sale, for a person who asks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis

from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, RecordNewer, State
from trackdesk_worker.ops.audit_log import Act, Operator, record
from trackdesk_worker.ops.lookup import SaleUnknown

MASK = "•••"
PERSONAL = ("cid", "customerId")
"""Fields that lead to a person, besides every custom parameter: whose click it was, and who bought."""


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One job, its conversion and its history."""

    record: JobRecord
    conversion: Mapping[str, Any] | None
    """The body for Trackdesk, masked unless asked for; None once the job has ended."""
    history: tuple[Mapping[str, Any], ...]
    """Attempts and operators' acts, the newest last; empty once the job has ended."""

    @property
    def dead(self) -> bool:
        """Whether the job is a dead letter."""
        return self.record.state is State.DEAD


def read_job(client: redis.Redis, keys: Keys, identity: str, *, reveal_to: Operator | None = None) -> JobDetail:
    """Return one job. Personal data is masked, unless an operator asks for it, which is put on record first.

    Raises:
        SaleUnknown: if the job is gone, or its record cannot be read.
    """
    with client.pipeline(transaction=True) as pipeline:  # record and history of one moment
        pipeline.get(keys.job(identity))
        pipeline.lrange(keys.history(identity), 0, -1)
        raw, entries = pipeline.execute()
    if raw is None:
        raise SaleUnknown("the sale is gone: its dedupe window ended just now")
    try:
        found = JobRecord.parse(identity, raw)
        conversion = json.loads(found.body) if found.body else None
        history = tuple(json.loads(entry) for entry in entries)
    except RecordNewer as error:
        raise SaleUnknown(str(error)) from error
    except ValueError as error:
        raise SaleUnknown("the record of this sale is damaged; `trackdesk audit` says more") from error
    if reveal_to is not None:
        about = {"tenant": found.tenant, "external_id": found.external_id}
        record(client, keys, Act.REVEAL, reveal_to, count=1, jobs=[about])
    elif conversion is not None:
        conversion = masked(conversion)
    return JobDetail(found, conversion, history)


def masked(conversion: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with every value hidden that may be personal data."""
    shown = {name: MASK if name in PERSONAL else value for name, value in conversion.items()}
    if "customParams" in shown:
        shown["customParams"] = dict.fromkeys(shown["customParams"], MASK)
    return shown
