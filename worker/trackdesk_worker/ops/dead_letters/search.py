"""Searches jobs, a page at a time. Results hold no personal data; nothing here scans the key space."""

from dataclasses import dataclass
from decimal import Decimal

from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.money import in_doubt
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.store.dead_letters.causes import Cause, causes_of
from trackdesk_worker.store.dead_letters.index_query import count, find
from trackdesk_worker.store.dead_letters.query import Hit, Search, SearchUnclear
from trackdesk_worker.store.job_store import JobStore

MAX_LIMIT = 10_000
WITHIN_S = 0.06
"""Time limit of a request; then it returns what it has, and a cursor."""


class SearchInvalid(OpsError):
    """A search that cannot be answered; the message says what to change."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One sale in a list. No personal data."""

    id: str
    """The job's identity."""
    tenant: str
    external_id: str
    state: State
    conversion_type: str
    """A dash once the sale has ended."""
    amount: Decimal | None
    currency: str | None
    reason: str | None
    http_status: int | None
    """Of the last attempt, for dead letters."""
    at_ms: int
    """The time of its state: died, ended, ready since, due, end of the lease."""
    accepted_ms: int
    attempts: int
    redrives: int
    may_have_landed: bool
    in_doubt: tuple[str, ...]
    """The amounts with which an attempt may have landed."""


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search."""

    rows: tuple[JobRow, ...]
    cursor: str | None
    """For `after`; None on the last page."""
    examined: int
    """Index entries read."""
    complete: bool
    """False if time ran out before the page was full: continue with the cursor; without one, name a tenant."""
    total: int | None
    """All matches, where the indexes know the number without reading them."""


def search(
    store: JobStore,
    wanted: Search,
    *,
    limit: int = 50,
    after: str | None = None,
    within_s: float | None = WITHIN_S,
) -> Found:
    """Return one page in the order of the search, read for about `within_s`; None is no limit.

    Raises:
        SearchInvalid: the message says what to change.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise SearchInvalid(f"a page holds 1 to {MAX_LIMIT:,} sales, not {limit}")
    try:
        hits = find(store, wanted, limit=limit, after=after, within_s=within_s)
    except SearchUnclear as error:
        raise SearchInvalid(str(error)) from error
    causes = causes_of(store, [hit.id for hit in hits.hits if hit.record.state is State.DEAD])
    rows = tuple(_job_row(hit, causes.get(hit.id)) for hit in hits.hits)
    return Found(rows, hits.cursor, hits.examined, hits.complete, count(store, wanted))


def _job_row(hit: Hit, cause: Cause | None) -> JobRow:
    record = hit.record
    return JobRow(
        id=record.id,
        tenant=record.tenant,
        external_id=record.external_id,
        state=record.state,
        conversion_type=hit.conversion_type,
        amount=record.amount,
        currency=hit.currency,
        reason=record.reason,
        http_status=None if cause is None else cause.http_status,
        at_ms=hit.at_ms,
        accepted_ms=record.accepted_ms,
        attempts=record.attempts_total,
        redrives=record.redrives,
        may_have_landed=record.ambiguous,
        in_doubt=in_doubt(record),
    )
