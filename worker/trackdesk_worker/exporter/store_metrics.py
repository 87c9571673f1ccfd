"""A snapshot of the store as metrics."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.domain.tenant_state import TenantState
from trackdesk_worker.ops.backlog_forecast import BacklogForecast
from trackdesk_worker.store.ledger import ACCEPTED, AT_RISK, CLAIMED, Book, total
from trackdesk_worker.store.snapshot import StoreSnapshot
from trackdesk_worker.store.tenant_snapshot import TenantSnapshot
from trackdesk_worker.telemetry import catalogue
from trackdesk_worker.telemetry.catalogue import Metric, MetricKind
from trackdesk_worker.telemetry.labels import CURRENCY, HOW, REASON, LedgerEvent, Queue, TenantNames

Family = CounterMetricFamily | GaugeMetricFamily
Forecast = Callable[[TenantSnapshot, int], BacklogForecast]
"""Forecasts the backlog of one tenant at a time (ms); its settings are bound."""
Samples = Mapping[tuple[str, ...], float]
"""Values of one metric by its label values, in the order of the catalogue."""


class StoreCollector(Collector):
    """One scrape: a snapshot, or None, in which case every metric of the store is left out.

    Absence raises an alert; an old number would hide the fault.
    """

    def __init__(
        self, snapshot: StoreSnapshot | None, names: TenantNames, *, forecast: Forecast, duration_s: float
    ) -> None:
        self._snapshot = snapshot
        self._names = names
        self._forecast = forecast
        self._duration_s = duration_s

    def collect(self) -> Iterator[Family]:
        """Return what to export."""
        yield _family(catalogue.BUILD_INFO, {(version("trackdesk-worker"),): 1})
        yield _family(catalogue.COLLECTOR_SUCCESS, {(): self._snapshot is not None})
        yield _family(catalogue.COLLECTOR_DURATION, {(): self._duration_s})
        if self._snapshot is not None:
            yield from _books(self._snapshot, self._names)
            yield from _money(self._snapshot)
            yield from _work(self._snapshot)
            yield from _tenants(self._snapshot, self._names)
            yield from _ahead(self._snapshot, self._names, self._forecast)
            yield from _redis(self._snapshot)


def _family(metric: Metric, samples: Samples) -> Family:
    kind = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.label_names)
    for labels, value in samples.items():
        family.add_metric(labels, float(value))
    return family


def _books(snapshot: StoreSnapshot, names: TenantNames) -> Iterator[Family]:
    names.admit({tenant: book.jobs[ACCEPTED] for tenant, book in snapshot.books.items()})
    jobs: Counter[tuple[str, ...]] = Counter()
    accepted: Counter[tuple[str, ...]] = Counter()
    ended: Counter[tuple[str, ...]] = Counter()
    delivered: Counter[tuple[str, ...]] = Counter()
    events: Counter[tuple[str, ...]] = Counter({(event.value,): 0 for event in LedgerEvent})
    for tenant, book in snapshot.books.items():
        name = names.of(tenant)
        accepted[(name,)] += book.jobs[ACCEPTED]
        for state in State:
            jobs[name, state.value] += book.jobs[state]
            if state.terminal:
                ended[name, state.value] += book.jobs[state] + book.jobs[f"pruned_{state}"]
        for how in HOW.values:
            delivered[name, how] += book.jobs[f"delivered_{how}"]
        for event in LedgerEvent:
            events[(event.value,)] += book.jobs[event]
    yield _family(catalogue.JOBS, jobs)
    yield _family(catalogue.ACCEPTED, accepted)
    yield _family(catalogue.ENDED, ended)
    yield _family(catalogue.DELIVERED, delivered)
    yield _family(catalogue.LEDGER_EVENTS, events)
    dead: Counter[tuple[str, ...]] = Counter()
    for reason, n in snapshot.dead_by_reason.items():
        dead[(REASON.of(reason),)] += n
    yield _family(catalogue.DEAD_JOBS, dead)


def _money(snapshot: StoreSnapshot) -> Iterator[Family]:
    whole = total(snapshot.books.values())
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
    for book in snapshot.books.values():
        for currency, amount in book.residual_money.items():
            missing[(CURRENCY.of(currency),)] += abs(amount)
    yield _family(catalogue.RESIDUAL_JOBS, {(): sum(abs(book.residual_jobs) for book in snapshot.books.values())})
    yield _family(catalogue.RESIDUAL_MONEY, {labels: float(amount) for labels, amount in missing.items()})
    yield _family(catalogue.INDEX_RESIDUAL, _index_residual(snapshot, whole))


def _index_residual(snapshot: StoreSnapshot, whole: Book) -> dict[tuple[str, ...], float]:
    residual: dict[tuple[str, ...], float] = {}
    aside = snapshot.newer  # counted in the state they had, and in no index
    for state, indexed in snapshot.indexed.items():
        missing = whole.jobs[state] - indexed
        explained = min(max(0, missing), aside)
        aside -= explained
        residual[(state.value,)] = explained - missing
    return residual


def _work(snapshot: StoreSnapshot) -> Iterator[Family]:
    overdue: Counter[tuple[str, ...]] = Counter({(s.value, q.value): 0 for s in TenantState for q in Queue})
    oldest: dict[tuple[str, ...], float] = {(state.value,): 0.0 for state in TenantState}
    late: Counter[tuple[str, ...]] = Counter({(job_class.value,): 0 for job_class in JobClass})
    oldest_ready = 0.0
    # Promotion is due for every tenant, blocked or not.
    waiting = [(TenantState.RUNNING, Queue.SCHEDULED, snapshot.scheduled)]
    for tenant, queues in snapshot.ready.items():
        state = snapshot.tenants[tenant].state(snapshot.now_ms)
        for job_class, backlog in queues.items():
            oldest_ready = max(oldest_ready, backlog.oldest_age_s)
            waiting.append((state, Queue(job_class.value), backlog))
            if state is not TenantState.PAUSED:  # an operator paused these
                late[(job_class.value,)] += backlog.late
    for state, queue, backlog in waiting:
        overdue[state.value, queue.value] += backlog.overdue
        oldest[(state.value,)] = max(oldest[(state.value,)], backlog.oldest_overdue_s)
    yield _family(catalogue.OLDEST_READY, {(): oldest_ready})
    yield _family(catalogue.OVERDUE_JOBS, overdue)
    yield _family(catalogue.OLDEST_OVERDUE, oldest)
    yield _family(catalogue.WAITING_LATE, late)
    yield _family(catalogue.WORKERS, {(): snapshot.running_workers})
    yield _family(catalogue.WAKEUPS_WAITING, {(): snapshot.wakeups})
    yield _family(catalogue.NEWER, {(): snapshot.newer})
    yield _family(catalogue.ADMISSION_CLOSED, {(): snapshot.admission_closed})


def _tenants(snapshot: StoreSnapshot, names: TenantNames) -> Iterator[Family]:
    counts: Counter[tuple[str, ...]] = Counter({(state.value,): 0 for state in TenantState})
    blocked: Counter[tuple[str, ...]] = Counter()
    for tenant, one in snapshot.tenants.items():
        state = one.state(snapshot.now_ms)
        counts[(state.value,)] += 1
        if state.blocks:
            blocked[names.of(tenant), state.value] += 1
    yield _family(catalogue.TENANTS, counts)
    yield _family(catalogue.TENANTS_BLOCKED, blocked)


def _ahead(snapshot: StoreSnapshot, names: TenantNames, forecast: Forecast) -> Iterator[Family]:
    drain: dict[tuple[str, ...], float] = {}
    late: Counter[tuple[str, ...]] = Counter()
    budget: dict[tuple[str, ...], float] = {}
    rate: defaultdict[tuple[str, ...], float] = defaultdict(float)
    assumed: defaultdict[tuple[str, ...], float] = defaultdict(float)
    spent: Counter[tuple[str, ...]] = Counter()
    for tenant, tenant_snapshot in snapshot.tenants.items():
        name, seen = (names.of(tenant),), forecast(tenant_snapshot, snapshot.now_ms)
        if seen.drain_s is not None:
            drain[name] = max(drain.get(name, 0.0), seen.drain_s)
        late[name] += seen.late
        factor = 0.0 if tenant_snapshot.record.blocked_state(snapshot.now_ms) else seen.pace.factor
        # Several tenants under one label: the slowest one matters.
        budget[name] = min(budget.get(name, 1.0), factor)
        if seen.pace.rate_per_s is not None:
            rate[name] += seen.pace.rate_per_s * factor
            assumed[(*name, seen.pace.basis.value)] += (seen.pace.sent_per_s or 0.0) * factor
        spent[name] += tenant_snapshot.book.jobs[CLAIMED]
    yield _family(catalogue.DRAIN, drain)
    yield _family(catalogue.LATE_JOBS, late)
    yield _family(catalogue.BUDGET_SHARE, budget)
    yield _family(catalogue.BUDGET_RATE, rate)
    yield _family(catalogue.FORECAST_RATE, assumed)
    yield _family(catalogue.BUDGET_SPENT, spent)


def _redis(snapshot: StoreSnapshot) -> Iterator[Family]:
    facts = snapshot.facts
    yield _family(catalogue.REDIS_AOF, {(): facts.aof})
    yield _family(catalogue.REDIS_AOF_OK, {(): facts.aof_write_ok})
    yield _family(catalogue.REDIS_AOF_REWRITE_OK, {(): facts.aof_rewrite_ok})
    yield _family(catalogue.REDIS_AOF_DELAYED, {(): facts.aof_delayed})
    yield _family(catalogue.REDIS_NOEVICTION, {(): facts.noeviction})
    yield _family(catalogue.REDIS_EVICTED, {(): facts.evicted})
    yield _family(catalogue.REDIS_MASTER, {(): facts.master})
    yield _family(catalogue.REDIS_REPLICAS, {(): facts.replicas})
    yield _family(catalogue.REDIS_REPLICA_LAG, {} if facts.replica_lag_s is None else {(): facts.replica_lag_s})
    yield _family(catalogue.REDIS_MEMORY_USED, {(): facts.memory_used})
    yield _family(catalogue.REDIS_MEMORY_MAX, {(): facts.memory_max})
    yield _family(catalogue.REDIS_UPTIME, {(): facts.uptime_s})
