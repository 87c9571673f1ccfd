"""What the exporter says of hours that the test lived through, under its own clock, by the product's scripts."""

from collections.abc import Callable

import pytest
import redis

from tests.support.store import Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import TenantSettings
from trackdesk_worker.domain.claim import ClaimedJob, Verb
from trackdesk_worker.domain.limits import Limits, Shares
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.exporter.store_metrics import StoreCollector
from trackdesk_worker.ops.backlog_forecast import forecast_of
from trackdesk_worker.store.snapshot import read_snapshot
from trackdesk_worker.telemetry.catalogue import OBJECTIVE_S
from trackdesk_worker.telemetry.labels import TenantNames
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint

FIVE = Limits(rate_per_s=5)
HOUR_MS = 3_600_000
Scrape = Callable[..., float]

pytestmark = pytest.mark.parametrize("server", ["valkey"], indirect=True)


class Metrics:
    """The exporter's collector over one store, at the test's time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.horizon_s = load_settings().horizon_s

    def scrape(self) -> Scrape:
        """Return a function that looks a value up, by name and labels."""
        own = TenantSettings(
            FIVE, Endpoint("https://{tenant}.trackdesk.com"), Policy(horizon_s=self.horizon_s), CreatedAt.LATE, False
        )
        snapshot = read_snapshot(self.store, sample=40, late_after_s=OBJECTIVE_S, now_ms=self.store.now_ms)
        collector = StoreCollector(
            snapshot,
            TenantNames(),
            forecast=lambda tenant, now_ms: forecast_of(tenant, own, Shares(), now_ms=now_ms),
            duration_s=0.0,
        )
        found = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in collector.collect()
            for sample in family.samples
        }
        return lambda name, **labels: found[(f"trackdesk_{name}", *sorted(labels.items()))]


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


@pytest.fixture
def metrics(store: Store) -> Metrics:
    return Metrics(store)


def deliver(store: Store, jobs: list[ClaimedJob]) -> None:
    for job in jobs:
        assert store.end(job, Verb.DELIVER)


def work(store: Store, *, every_ms: int, for_ms: int, most: int = 1) -> int:
    """Claim at most `most` jobs in every interval and deliver them; return how many left."""
    sent, end = 0, store.now_ms + for_ms
    while store.now_ms < end:
        store.now_ms += every_ms
        jobs = store.claim(most, limits=FIVE).jobs
        deliver(store, jobs)
        sent += len(jobs)
    return sent


def sales(tenant: str, number: int) -> list[str]:
    return [f"{tenant}/{n}" for n in range(number)]


def test_a_tenant_that_workers_starve_is_not_at_its_budget(store: Store, metrics: Metrics) -> None:
    store.enqueue(*sales("acme", 2_000))
    assert work(store, every_ms=4_000, for_ms=HOUR_MS) == 900

    seen = metrics.scrape()

    assert seen("oldest_overdue_age_seconds", tenant_state="running") == pytest.approx(3_600, abs=1)
    assert seen("oldest_overdue_age_seconds", tenant_state="at_budget") == 0
    assert seen("overdue_jobs", tenant_state="running", queue="live") == 1_100
    assert seen("drain_seconds", tenant="acme") == pytest.approx(4_400, rel=0.05)
    assert seen("forecast_rate", tenant="acme", pace="observed") == pytest.approx(0.25, rel=0.05)
    assert seen("budget_rate", tenant="acme") == 5


def test_sales_that_a_starved_tenant_cannot_send_in_time_are_announced_as_late(store: Store, metrics: Metrics) -> None:
    metrics.horizon_s = 2 * HOUR_MS / 1000
    store.enqueue(*sales("acme", 2_000))
    work(store, every_ms=4_000, for_ms=HOUR_MS)

    assert metrics.scrape()("late_jobs", tenant="acme") == pytest.approx(200, rel=0.15)


def test_a_tenant_whose_budget_is_spent_is_at_its_budget(store: Store, metrics: Metrics) -> None:
    store.enqueue(*sales("acme", 1_000))
    assert work(store, every_ms=100, for_ms=120_000, most=100) == pytest.approx(600, abs=2)

    seen = metrics.scrape()

    assert seen("oldest_overdue_age_seconds", tenant_state="running") == 0
    assert seen("oldest_overdue_age_seconds", tenant_state="at_budget") == pytest.approx(120, abs=1)
    assert seen("drain_seconds", tenant="acme") == pytest.approx(80, rel=0.05)
    assert seen("forecast_rate", tenant="acme", pace="budget") == 5


def test_a_tenant_that_used_up_its_places_at_a_slow_trackdesk_is_not_at_its_budget(
    store: Store, metrics: Metrics
) -> None:
    store.enqueue(*sales("acme", 1_000))
    store.client.hset(store.keys.tenant("acme"), "window", 1)
    for _ in range(150):
        jobs = store.claim(100, limits=FIVE).jobs
        for _ in range(4):
            store.now_ms += 500
            assert store.claim(100, limits=FIVE).jobs == []
        deliver(store, jobs)
        store.client.hset(store.keys.tenant("acme"), "window", 1)

    seen = metrics.scrape()

    assert seen("oldest_overdue_age_seconds", tenant_state="running") == pytest.approx(300, abs=1)
    assert seen("forecast_rate", tenant="acme", pace="observed") == pytest.approx(0.5, rel=0.1)


def test_without_a_worker_no_tenant_is_at_its_budget(store: Store, metrics: Metrics) -> None:
    store.enqueue(*sales("acme", 1_000), *sales("new", 10))
    store.pause("new")
    work(store, every_ms=100, for_ms=120_000, most=100)
    store.resume("new")
    store.now_ms += 300_000

    seen = metrics.scrape()

    assert seen("oldest_overdue_age_seconds", tenant_state="running") == pytest.approx(420, abs=1)
    assert seen("oldest_overdue_age_seconds", tenant_state="at_budget") == 0
    assert seen("forecast_rate", tenant="acme", pace="observed") < 2
    assert seen("forecast_rate", tenant="new", pace="observed") < 2


def test_time_without_work_or_by_a_block_is_no_unused_budget(store: Store, metrics: Metrics) -> None:
    store.enqueue(*sales("acme", 400))
    work(store, every_ms=100, for_ms=90_000, most=100)
    store.now_ms += HOUR_MS
    store.enqueue(*[f"acme/later-{n}" for n in range(1_000)])
    work(store, every_ms=100, for_ms=90_000, most=100)
    assert metrics.scrape()("oldest_overdue_age_seconds", tenant_state="at_budget") == pytest.approx(90, abs=1)

    store.pause("acme")
    store.now_ms += HOUR_MS
    store.enqueue("acme/meanwhile")
    store.resume("acme")
    work(store, every_ms=100, for_ms=5_000, most=100)
    assert metrics.scrape()("oldest_overdue_age_seconds", tenant_state="running") == 0
    assert metrics.scrape()("drain_seconds", tenant="acme") == pytest.approx(526 / 5, rel=0.05)
