"""The books: jobs and exact money by tenant and state, moved by the scripts in the same step as the job.

A book is a hash. Field ``<state>`` counts jobs; ``<state>:<currency>:<limb>`` sums money in three limbs (2: 10^9
units, 1: units, 0: 10^-9 units), each an integer. Besides the states it holds ``accepted``, ``pruned_<state>`` and
counters of events (``duplicates``, ``conflicts``, ``redriven``, ``reclaimed``, ``claimed``, ``freezes``,
``delivered_<how>``, ``orphaned_entries``).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from trackdesk_producer.contract.record import State
from trackdesk_worker.store.job_store import JobStore

LIMB_EXPONENTS = {"2": 9, "1": 0, "0": -9}

ACCEPTED = "accepted"
PRUNED = tuple(f"pruned_{state}" for state in State if state.terminal)
CLAIMED = "claimed"
"""Requests ever taken from the tenant's budget."""
HOLDING = (*(state.value for state in State), *PRUNED)
"""The columns that together must equal ``accepted``."""
AT_RISK = (State.READY, State.SCHEDULED, State.IN_FLIGHT, State.DEAD)
"""Accepted, and not at Trackdesk yet."""

_EXACT_DIGITS = 60  # the largest sum has 15 digits before the point, 9 behind, times as many jobs as memory holds

Money = dict[str, Decimal]
"""Sum per ISO 4217 code; XXX for amounts without a currency."""


@dataclass(frozen=True, slots=True)
class Book:
    """The books of one tenant, or of several added up."""

    jobs: Counter[str] = field(default_factory=Counter)
    money: dict[str, Money] = field(default_factory=dict)
    """Column → currency → sum; without zero sums."""

    @property
    def residual_jobs(self) -> int:
        """Jobs accepted that no column holds; 0 unless something is wrong."""
        return self.jobs[ACCEPTED] - sum(self.jobs[column] for column in HOLDING)

    @property
    def residual_money(self) -> Money:
        """Money accepted that no column holds, by currency; empty unless something is wrong."""
        with localcontext(prec=_EXACT_DIGITS):
            rest: defaultdict[str, Decimal] = defaultdict(Decimal, self.money.get(ACCEPTED, {}))
            for column in HOLDING:
                for currency, amount in self.money.get(column, {}).items():
                    rest[currency] -= amount
        return {currency: amount for currency, amount in rest.items() if amount}

    @property
    def at_risk(self) -> Money:
        """Money accepted and not delivered, by currency: what an incident may cost."""
        return add_money(self.money.get(state, {}) for state in AT_RISK)


def add_money(sums: Iterable[Mapping[str, Decimal]]) -> Money:
    """Add sums per currency, exactly; leave out zeros."""
    total: defaultdict[str, Decimal] = defaultdict(Decimal)
    with localcontext(prec=_EXACT_DIGITS):
        for money in sums:
            for currency, amount in money.items():
                total[currency] += amount
    return {currency: total[currency] for currency in sorted(total) if total[currency]}


def parse_book(fields: Mapping[bytes, bytes]) -> Book:
    """Read one tenant's hash."""
    jobs: Counter[str] = Counter()
    money: dict[str, defaultdict[str, Decimal]] = {}
    with localcontext(prec=_EXACT_DIGITS):
        for raw_name, raw_value in fields.items():
            column, _, limb = raw_name.decode().partition(":")
            if not limb:
                jobs[column] = int(raw_value)
                continue
            currency, _, place = limb.partition(":")
            sums = money.setdefault(column, defaultdict(Decimal))
            sums[currency] += Decimal(int(raw_value)).scaleb(LIMB_EXPONENTS[place])
    return Book(jobs, {column: add_money([sums]) for column, sums in money.items()})


def read_books(store: JobStore) -> dict[str, Book]:
    """Read every tenant's books, all of one moment, in one round trip after the list of tenants."""
    tenants = store.tenants()
    replies = store.transaction([("HGETALL", store.keys.ledger(tenant)) for tenant in tenants])
    return {tenant: parse_book(reply) for tenant, reply in zip(tenants, replies, strict=True)}


def total(books: Iterable[Book]) -> Book:
    """Add books up."""
    jobs: Counter[str] = Counter()
    columns: defaultdict[str, list[Money]] = defaultdict(list)
    for book in books:
        jobs.update(book.jobs)
        for column, money in book.money.items():
            columns[column].append(money)
    return Book(jobs, {column: add_money(sums) for column, sums in columns.items()})
