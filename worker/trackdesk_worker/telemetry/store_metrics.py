"""A reading of the store as metrics."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trackdesk_producer.contract.job import State
from trackdesk_worker.outlook import Outlook
from trackdesk_worker.store.ledger import ACCEPTED, AT_RISK, total
from trackdesk_worker.store.survey import TenantSurvey
from trackdesk_worker.telemetry import catalogue
from trackdesk_worker.telemetry.catalogue import Kind, Metric
from trackdesk_worker.telemetry.labels import CURRENCY, REASON, LedgerEvent, TenantNames, TenantState
from trackdesk_worker.telemetry.reading import Reading

Family = CounterMetricFamily | GaugeMetricFamily
LookAhead = Callable[[TenantSurvey, int], Outlook]
"""Looks ahead for one tenant at a time (ms); the settings it needs are bound in it."""
Samples = Mapping[tuple[str, ...], float]
"""Values of one metric by its label values, in the order of the catalogue."""


class StoreCollector(Collector):
    """One scrape: a reading, or None where there was none, in which case every metric of the store is left out.

    Old numbers are worse than none: absence raises an alert, a number that stands still does not.
    """

    def __init__(self, reading: Reading | None, names: TenantNames, *, outlook: LookAhead, duration_s: float) -> None:
        self._reading = reading
        self._names = names
        self._outlook = outlook
        self._duration_s = duration_s

    def collect(self) -> Iterator[Family]:
        """Return what to export."""
        yield _family(catalogue.BUILD_INFO, {(version("trackdesk-worker"),): 1})
        yield _family(catalogue.COLLECTOR_SUCCESS, {(): self._reading is not None})
        yield _family(catalogue.COLLECTOR_DURATION, {(): self._duration_s})
        if self._reading is not None:
            yield from _books(self._reading, self._names)
            yield from _money(self._reading)
            yield from _work(self._reading)
            yield from _tenants(self._reading, self._names)
            yield from _ahead(self._reading, self._names, self._outlook)
            yield from _redis(self._reading)


def _family(metric: Metric, samples: Samples) -> Family:
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.label_names)
    for labels, value in samples.items():
        family.add_metric(labels, float(value))
    return family


def _books(reading: Reading, names: TenantNames) -> Iterator[Family]:
    names.admit({tenant: book.jobs[ACCEPTED] for tenant, book in reading.books.items()})
    jobs: Counter[tuple[str, ...]] = Counter()
    accepted: Counter[tuple[str, ...]] = Counter()
    ended: Counter[tuple[str, ...]] = Counter()
    events: Counter[tuple[str, ...]] = Counter({(event.value,): 0 for event in LedgerEvent})
    for tenant, book in reading.books.items():
        name = names.of(tenant)
        accepted[(name,)] += book.jobs[ACCEPTED]
        for state in State:
            jobs[name, state.value] += book.jobs[state]
            if state.terminal:
                ended[name, state.value] += book.jobs[state] + book.jobs[f"pruned_{state}"]
        for event in LedgerEvent:
            events[(event.value,)] += book.jobs[event]
    yield _family(catalogue.JOBS, jobs)
    yield _family(catalogue.ACCEPTED, accepted)
    yield _family(catalogue.ENDED, ended)
    yield _family(catalogue.LEDGER_EVENTS, events)
    dead: Counter[tuple[str, ...]] = Counter()
    for reason, n in reading.dead_by_reason.items():
        dead[(REASON.of(reason),)] += n
    yield _family(catalogue.DEAD_JOBS, dead)


def _money(reading: Reading) -> Iterator[Family]:
    whole = total(reading.books.values())
    seen = sorted({CURRENCY.of(currency) for currency in whole.money.get(ACCEPTED, {})})
    at_risk: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    at_risk.update({(state.value, currency): Decimal() for state in AT_RISK for currency in seen})
    for state in AT_RISK:
        for currency, amount in whole.money.get(state, {}).items():
            at_risk[state.value, CURRENCY.of(currency)] += amount
    yield _family(catalogue.VALUE_AT_RISK, {labels: float(amount) for labels, amount in at_risk.items()})

    # Absolute values: one tenant's surplus must not hide another's loss.
    missing: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    missing.update({(currency,): Decimal() for currency in seen})
    for book in reading.books.values():
        for currency, amount in book.residual_money.items():
            missing[(CURRENCY.of(currency),)] += abs(amount)
    yield _family(catalogue.RESIDUAL_JOBS, {(): sum(abs(book.residual_jobs) for book in reading.books.values())})
    yield _family(catalogue.RESIDUAL_MONEY, {labels: float(amount) for labels, amount in missing.items()})
    yield _family(
        catalogue.INDEX_RESIDUAL,
        {(state.value,): indexed - whole.jobs[state] for state, indexed in reading.indexed.items()},
    )


def _work(reading: Reading) -> Iterator[Family]:
    oldest_ready = max((backlog.oldest_age_s for backlog in reading.ready.values()), default=0.0)
    overdue: Counter[tuple[str, ...]] = Counter({(state.value,): 0 for state in TenantState})
    oldest: dict[tuple[str, ...], float] = {(state.value,): 0.0 for state in TenantState}
    # What a paused tenant leaves undone is meant. Promotion is due for every tenant, standing or not.
    waiting = [(TenantState.RUNNING, reading.scheduled)]
    waiting += [(reading.standing[tenant], backlog) for tenant, backlog in reading.ready.items()]
    for state, backlog in waiting:
        labels = (state.value,)
        overdue[labels] += backlog.overdue
        oldest[labels] = max(oldest[labels], backlog.oldest_overdue_s)
    yield _family(catalogue.OLDEST_READY, {(): oldest_ready})
    yield _family(catalogue.OVERDUE_JOBS, overdue)
    yield _family(catalogue.OLDEST_OVERDUE, oldest)
    yield _family(catalogue.WORKERS, {(): reading.workers})
    yield _family(catalogue.WAKEUPS_WAITING, {(): reading.wakeups})
    yield _family(catalogue.ADMISSION_CLOSED, {(): reading.admission_closed})


def _tenants(reading: Reading, names: TenantNames) -> Iterator[Family]:
    counts: Counter[tuple[str, ...]] = Counter({(state.value,): 0 for state in TenantState})
    standing: Counter[tuple[str, ...]] = Counter()
    for tenant, state in reading.standing.items():
        counts[(state.value,)] += 1
        if state is not TenantState.RUNNING:
            standing[names.of(tenant), state.value] += 1
    yield _family(catalogue.TENANTS, counts)
    yield _family(catalogue.TENANTS_STANDING, standing)


def _ahead(reading: Reading, names: TenantNames, outlook: LookAhead) -> Iterator[Family]:
    drain: dict[tuple[str, ...], float] = {}
    late: Counter[tuple[str, ...]] = Counter()
    budget: dict[tuple[str, ...], float] = {}
    for tenant, survey in reading.surveys.items():
        name, seen = (names.of(tenant),), outlook(survey, reading.now_ms)
        if seen.drain_s is not None:
            drain[name] = max(drain.get(name, 0.0), seen.drain_s)
        late[name] += seen.late
        standing = reading.standing[tenant] is not TenantState.RUNNING
        # Several tenants under one label: the slowest is the one to look at.
        budget[name] = min(budget.get(name, 1.0), 0.0 if standing else seen.pace.factor)
    yield _family(catalogue.DRAIN, drain)
    yield _family(catalogue.LATE_JOBS, late)
    yield _family(catalogue.BUDGET_SHARE, budget)


def _redis(reading: Reading) -> Iterator[Family]:
    facts = reading.facts
    yield _family(catalogue.REDIS_AOF, {(): facts.aof})
    yield _family(catalogue.REDIS_AOF_OK, {(): facts.aof_write_ok})
    yield _family(catalogue.REDIS_NOEVICTION, {(): facts.noeviction})
    yield _family(catalogue.REDIS_MASTER, {(): facts.master})
    yield _family(catalogue.REDIS_MEMORY_USED, {(): facts.memory_used})
    yield _family(catalogue.REDIS_MEMORY_MAX, {(): facts.memory_max})
