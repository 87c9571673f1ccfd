"""A search of jobs, and a job that it finds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from trackdesk_producer.contract.record import NO_CURRENCY, JobRecord, State
from trackdesk_worker.store.dead_letters.causes import Cause, IndexEntry

Order = Literal["newest", "oldest", "largest", "smallest"]


class SearchUnclear(ValueError):
    """A search that cannot be answered as it was asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which sales to find; None is any. Times are Unix ms and amounts decimals, both ends included.

    The time is that of the state: when a dead letter died, a job became ready, is due, its lease ends, or it ended.
    """

    tenant: str | None = None
    state: State | None = None
    reason: str | None = None
    conversion_type: str | None = None
    http_status: int | None = None
    external_id: str | None = None
    cid: str | None = None
    customer_id: str | None = None
    currency: str | None = None
    """Sales without an amount have none."""
    min_amount: Decimal | None = None
    max_amount: Decimal | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    order: Order = "newest"

    @property
    def by_time(self) -> bool:
        """Whether the order is one of time."""
        return self.order in ("newest", "oldest")

    @property
    def down(self) -> bool:
        """Whether the order begins with the greatest."""
        return self.order in ("newest", "largest")

    @property
    def by_amount(self) -> bool:
        """Whether amounts are limited."""
        return self.min_amount is not None or self.max_amount is not None

    @property
    def by_period(self) -> bool:
        """Whether times are limited."""
        return self.since_ms is not None or self.until_ms is not None

    @property
    def by_person(self) -> bool:
        """Whether the search names one sale, click or customer."""
        return (self.external_id, self.cid, self.customer_id) != (None, None, None)

    @property
    def by_cause_only(self) -> bool:
        """Whether the causes' books alone know the answer."""
        return not (self.by_amount or self.by_period or self.by_person)

    def may_match(self, cause: Cause) -> bool:
        """Return whether dead letters of the cause may match."""
        return (
            self.tenant in (None, cause.tenant)
            and self.reason in (None, cause.reason)
            and self.http_status in (None, cause.http_status)
            and self.currency in (None, cause.currency)
            and (self.conversion_type in (None, cause.conversion_type) or not cause.certain)
            and not (self.by_amount and cause.currency is None)
        )

    def __str__(self) -> str:
        """Say it in words, without personal data: for the audit log."""
        parts = [
            f"{name} {value}"
            for name, value in (
                ("tenant", self.tenant),
                ("state", None if self.state is None else self.state.value),
                ("reason", self.reason),
                ("type", self.conversion_type),
                ("status", self.http_status),
                ("externalId", self.external_id),
                ("cid", None if self.cid is None else "•••"),
                ("customerId", None if self.customer_id is None else "•••"),
                ("currency", self.currency),
                ("amount at least", self.min_amount),
                ("amount at most", self.max_amount),
                ("at or after", self.since_ms),
                ("at or before", self.until_ms),
            )
            if value is not None
        ]
        return ", ".join(parts) or "all"


def conversion_of(record: JobRecord) -> Mapping[str, Any]:
    """Return a record's body; empty once the job has ended, or if it is none."""
    try:
        body = json.loads(record.body) if record.body else {}
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


class Hit:
    """One job that was found, with its body."""

    __slots__ = ("__dict__", "entry", "record")

    def __init__(self, record: JobRecord, entry: IndexEntry) -> None:
        self.record = record
        self.entry = entry

    @property
    def id(self) -> str:
        """The job's identity."""
        return self.record.id

    @cached_property
    def conversion(self) -> Mapping[str, Any]:
        """The body for Trackdesk; empty once the job has ended."""
        return conversion_of(self.record)

    @property
    def conversion_type(self) -> str:
        """Its conversion type; a dash once the job has ended."""
        return str(self.conversion.get("conversionTypeCode", "-"))

    @property
    def reason(self) -> str:
        """Why it is dead, ended, or failed last."""
        return self.record.reason or "-"

    @property
    def at_ms(self) -> int:
        """The time of its state."""
        return self.record.at // 1000 if self.record.state is State.READY else self.record.at

    @property
    def amount(self) -> Decimal | None:
        """Its money, None if the conversion names none."""
        return self.record.amount

    @property
    def currency(self) -> str | None:
        """Its ISO 4217 code, None if the conversion names none."""
        return None if self.record.currency == NO_CURRENCY else self.record.currency


def matches(hit: Hit, wanted: Search) -> bool:
    """Return whether a job matches the search.

    Every field is compared, also those that the index decided: the job may have changed since the index was read.
    """
    record = hit.record
    return (
        wanted.tenant in (None, record.tenant)
        and wanted.state in (None, record.state)
        and wanted.reason in (None, hit.reason)
        and wanted.currency in (None, record.currency)
        and (wanted.since_ms is None or hit.at_ms >= wanted.since_ms)
        and (wanted.until_ms is None or hit.at_ms <= wanted.until_ms)
        and (wanted.min_amount is None or (record.amount is not None and record.amount >= wanted.min_amount))
        and (wanted.max_amount is None or (record.amount is not None and record.amount <= wanted.max_amount))
        and wanted.external_id in (None, record.external_id)
        and wanted.conversion_type in (None, hit.conversion_type)
        and wanted.cid in (None, hit.conversion.get("cid"))
        and wanted.customer_id in (None, hit.conversion.get("customerId"))
    )
