"""Dead letters by cause, and what a search of them adds up to. A search by cause reads no dead letter."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic

from trackdesk_producer.contract.record import NO_CURRENCY, State, external_id_of
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.dead_letters.search import WITHIN_S, SearchInvalid
from trackdesk_worker.ops.remedies import remedy
from trackdesk_worker.store.dead_letters.causes import Cause, causes_of, read_causes
from trackdesk_worker.store.dead_letters.index_query import find
from trackdesk_worker.store.dead_letters.index_readers import BATCH
from trackdesk_worker.store.dead_letters.query import Hit, Search, SearchUnclear
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Money, add_money


@dataclass(frozen=True, slots=True)
class CauseSummary:
    """Dead letters with one cause, and what to do about them."""

    tenant: str
    reason: str
    conversion_type: str
    """``*`` for a group of types that are too long or too many to list."""
    http_status: int | None
    jobs: int
    money: Money
    first_ms: int
    last_ms: int
    example: str
    """The externalId of the oldest of them."""
    remedy: str


@dataclass(frozen=True, slots=True)
class CauseSummaries:
    """Dead letters by cause, the largest first."""

    rows: tuple[CauseSummary, ...]
    jobs: int
    """Of all causes, including those without a row."""
    money: Money
    complete: bool
    """False if time ran out: the numbers cover the dead letters read so far."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a search of dead letters."""

    jobs: int
    money: Money
    by_reason: dict[str, int]
    by_tenant: dict[str, int]
    complete: bool
    """False if time ran out: the numbers cover the dead letters read so far."""


def dead_by_cause(
    store: JobStore, wanted: Search, *, most: int = 200, within_s: float | None = WITHIN_S
) -> CauseSummaries:
    """Return the dead letters of a search by cause; times and example of the `most` largest.

    A search by tenant, reason, type, status and currency reads no dead letter, however many there are; any other reads
    its matches, for about `within_s`.
    """
    wanted = _of_dead(wanted)
    causes = _causes(store, wanted)
    if causes is not None:
        return _from_books(store, causes, most)
    found: dict[tuple[str, str, str, int | None], _Growing] = {}
    complete = True
    for hits, more in _pages(store, wanted, within_s):
        of = causes_of(store, [hit.id for hit in hits])
        for hit in hits:
            cause = of.get(hit.id)
            key = (hit.record.tenant, hit.reason, hit.conversion_type, None if cause is None else cause.http_status)
            found.setdefault(key, _Growing(hit)).add(hit)
        complete = not more
    rows = sorted((g.summary(*key) for key, g in found.items()), key=_largest_first)
    return CauseSummaries(tuple(rows[:most]), sum(c.jobs for c in rows), add_money(c.money for c in rows), complete)


def summary(store: JobStore, wanted: Search, *, within_s: float | None = WITHIN_S) -> Summary:
    """Return the totals of a search of dead letters, read as in `dead_by_cause`."""
    wanted = _of_dead(wanted)
    reasons: Counter[str] = Counter()
    tenants: Counter[str] = Counter()
    money: Money = {}
    complete = True
    causes = _causes(store, wanted)
    if causes is not None:
        for cause in causes:
            reasons[cause.reason] += cause.jobs
            tenants[cause.tenant] += cause.jobs
        money = add_money(cause.money for cause in causes)
    else:
        for hits, more in _pages(store, wanted, within_s):
            reasons.update(hit.reason for hit in hits)
            tenants.update(hit.record.tenant for hit in hits)
            money = add_money([money, *map(money_of, hits)])
            complete = not more
    return Summary(tenants.total(), money, dict(reasons.most_common()), dict(tenants.most_common()), complete)


def money_of(hit: Hit) -> Money:
    """Return a sale's amount by its currency in the books."""
    return {} if hit.amount is None else {hit.record.currency or NO_CURRENCY: hit.amount}


def _of_dead(wanted: Search) -> Search:
    if wanted.state not in (None, State.DEAD):
        raise SearchInvalid("only dead letters have causes: search the state dead")
    return replace(wanted, state=State.DEAD)


def _causes(store: JobStore, wanted: Search) -> list[Cause] | None:
    """Return the causes that a search covers, if it covers all dead letters of each."""
    if not wanted.by_cause_only:
        return None
    causes = [cause for cause in read_causes(store) if wanted.may_match(cause)]
    return causes if wanted.conversion_type is None or all(cause.certain for cause in causes) else None


def _pages(store: JobStore, wanted: Search, within_s: float | None) -> Iterator[tuple[tuple[Hit, ...], bool]]:
    """Yield all dead letters of a search, the oldest first, page by page, and whether time ran out after the page."""
    deadline = None if within_s is None else monotonic() + within_s
    cursor = None
    while True:
        left_s = None if deadline is None else max(0.0, deadline - monotonic())
        try:
            hits = find(store, replace(wanted, order="oldest"), limit=BATCH, after=cursor, within_s=left_s)
        except SearchUnclear as error:
            raise SearchInvalid(str(error)) from error
        cursor = hits.cursor
        late = deadline is not None and monotonic() > deadline and cursor is not None
        yield hits.hits, late or (cursor is None and not hits.complete)
        if cursor is None or late:
            return


def _from_books(store: JobStore, causes: list[Cause], most: int) -> CauseSummaries:
    kinds: dict[tuple[str, str, str, int | None], list[Cause]] = {}
    for cause in causes:
        kinds.setdefault((cause.tenant, cause.reason, cause.conversion_type, cause.http_status), []).append(cause)
    ordered = sorted(kinds.items(), key=lambda item: (-sum(c.jobs for c in item[1]), *map(str, item[0])))
    shown = ordered[:most]
    with store.client.pipeline(transaction=False) as pipeline:
        for _, parts in shown:
            for part in parts:
                pipeline.zrange(store.keys.cause(part.number, "died"), 0, 0, withscores=True)
                pipeline.zrange(store.keys.cause(part.number, "died"), -1, -1, withscores=True)
        replies = iter(pipeline.execute())
    rows = []
    for kind, parts in shown:
        ends = [(next(replies), next(replies)) for _ in parts]
        oldest = min(((score, text(member)) for first, _ in ends for member, score in first), default=None)
        newest = max((score for _, last in ends for _, score in last), default=0)
        if oldest is not None:  # else all of them were redriven or discarded since the books were read
            tenant, reason, conversion_type, status = kind
            jobs, money = sum(part.jobs for part in parts), add_money(part.money for part in parts)
            first_ms, example = int(oldest[0]), external_id_of(oldest[1])
            rows.append(
                CauseSummary(
                    tenant, reason, conversion_type, status, jobs, money, first_ms, int(newest), example, remedy(reason)
                )
            )
    return CauseSummaries(tuple(rows), sum(c.jobs for c in causes), add_money(c.money for c in causes), True)


def _largest_first(row: CauseSummary) -> tuple[int, str, str, str, int]:
    return -row.jobs, row.tenant, row.reason, row.conversion_type, row.http_status or 0


class _Growing:
    """Totals of a cause while its dead letters are read, the oldest first."""

    def __init__(self, first: Hit) -> None:
        self._first = first
        self._last_ms = first.at_ms
        self._jobs = 0
        self._money: Money = {}

    def add(self, hit: Hit) -> None:
        self._jobs += 1
        self._last_ms = hit.at_ms
        self._money = add_money([self._money, money_of(hit)])

    def summary(self, tenant: str, reason: str, conversion_type: str, status: int | None) -> CauseSummary:
        first = self._first
        return CauseSummary(
            tenant, reason, conversion_type, status, self._jobs, self._money,
            first.at_ms, self._last_ms, first.record.external_id, remedy(reason),
        )  # fmt: skip
