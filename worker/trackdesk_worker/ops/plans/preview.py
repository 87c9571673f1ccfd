"""Previews a plan: jobs, money, and how long it takes. Nothing is stored."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from trackdesk_producer.contract.record import State
from trackdesk_worker.domain.limits import Shares
from trackdesk_worker.ops.dead_letters.by_cause import money_of, summary
from trackdesk_worker.store.dead_letters.index_query import walk
from trackdesk_worker.store.dead_letters.query import Hit, Search
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Money, add_money
from trackdesk_worker.store.tenant_record import read_tenant_records


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan over a filter would affect now."""

    jobs: int
    money: Money
    by_reason: Mapping[str, int]
    by_tenant: Mapping[str, int]
    complete: bool
    """False if time ran out: the numbers are minimums."""
    seconds_at_budget: float
    """How long the requests take if nothing else is sent; 0 is no limit."""
    seconds_at_share: float
    """The same if live sales and retries use up their shares."""


def preview(
    store: JobStore,
    wanted: Search,
    *,
    rate_limit: float,
    shares: Shares,
    within_s: float | None = None,
) -> Preview:
    """Return what a plan over `wanted` would affect. Only a filter on time, amount or person reads dead letters."""
    found = summary(store, wanted, within_s=within_s)
    seconds = seconds_at_budget(store, found.by_tenant, rate_limit=rate_limit)
    whole = shares.live + shares.retry + shares.redrive
    at_share = math.ceil(seconds * whole / shares.redrive) if shares.redrive else 0.0
    return Preview(found.jobs, found.money, found.by_reason, found.by_tenant, found.complete, seconds, at_share)


def figures_of(store: JobStore, wanted: Search, limit: int) -> tuple[int, Money, Mapping[str, int], Mapping[str, int]]:
    """Return jobs, money, and jobs by reason and tenant of the oldest `limit` dead letters of a search."""
    return add_up(islice(walk(store, replace(wanted, state=State.DEAD)), limit))


def add_up(hits: Iterable[Hit]) -> tuple[int, Money, Mapping[str, int], Mapping[str, int]]:
    """Return jobs, money, and jobs by reason and tenant."""
    reasons: Counter[str] = Counter()
    tenants: Counter[str] = Counter()
    money: Money = {}
    for hit in hits:
        reasons[hit.reason] += 1
        tenants[hit.record.tenant] += 1
        money = add_money([money, money_of(hit)])
    return tenants.total(), money, dict(reasons.most_common()), dict(tenants.most_common())


def seconds_at_budget(store: JobStore, by_tenant: Mapping[str, int], *, rate_limit: float) -> float:
    """Return how long these requests take at the tenants' budgets, if nothing else is sent; 0 is no limit."""
    own = [record.rate_us for record in read_tenant_records(store, by_tenant)]
    longest = 0.0
    for jobs, own_us in zip(by_tenant.values(), own, strict=True):
        rate = rate_limit if own_us is None else (1_000_000 / own_us if own_us else 0)
        longest = max(longest, jobs / rate if rate else 0)
    return math.ceil(longest * 10) / 10
