"""The forecast is held against what then happens."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.support.virtual import World
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import run
from trackdesk_worker.config.tenants import TenantSettings
from trackdesk_worker.domain.limits import Limits, Shares
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.ops.backlog_forecast import BacklogForecast, forecast_of
from trackdesk_worker.store.tenant_snapshot import tenant_snapshots
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint

pytestmark = pytest.mark.parametrize("server", ["valkey"], indirect=True)

FIVE = Limits(rate_per_s=5)
TOLERANCE = 0.15


@pytest.fixture
def world(client: redis.Redis, keys: Keys) -> Callable[..., World]:
    return lambda **options: World(client, keys, limits=FIVE, **options)


def ahead(world: World, *, horizon_s: float = 259_200, sample: int = 40) -> BacklogForecast:
    (operation,) = tenant_snapshots(world.store.keys, ["acme"], overdue_before_us=0, sample=sample, now_ms=world.now_ms)
    (tenant_snapshot,) = run(world.store.client, operation)
    own = TenantSettings(
        FIVE, Endpoint("https://{tenant}.trackdesk.com"), Policy(horizon_s=horizon_s), CreatedAt.LATE, False
    )
    return forecast_of(tenant_snapshot, own, Shares(), now_ms=world.now_ms)


def drained_within_s(world: World) -> float:
    start = world.now_ms
    world.run_until(world.finished, at_most_ms=24 * 3_600_000)
    return (world.now_ms - start) / 1000


def close_to(actual: float) -> Any:
    return pytest.approx(actual, rel=TOLERANCE)


def test_a_backlog_is_drained_when_the_forecast_says(world: Any) -> None:
    shop = world()
    shop.enqueue(*(f"o-{number}" for number in range(600)))
    forecast = ahead(shop).drain_s
    assert forecast == close_to(drained_within_s(shop))


def test_after_a_429_the_forecast_knows_the_freeze_and_the_climb(world: Any) -> None:
    shop = world(simulator={"rate_limit": {"per_s": 3, "lockout_s": 60}})
    shop.enqueue(*(f"o-{number}" for number in range(600)))
    shop.run_until(lambda: "frozen_until" in shop.store.tenant("acme"), at_most_ms=60_000)
    shop.engine.configure(shop.engine.config.patched({"rate_limit": {"per_s": 1000, "lockout_s": 0}}))
    shop.run_for(1_000)
    seen = ahead(shop)
    assert seen.pace.factor == 0.5
    assert seen.pace.starts_in_s > 50
    assert seen.drain_s == close_to(drained_within_s(shop))


def test_in_an_outage_the_forecast_starts_at_the_next_probe(world: Any) -> None:
    shop = world(simulator={"outage": "503"})
    shop.enqueue(*(f"o-{number}" for number in range(1_000)))
    shop.run_until(lambda: any(job.probe for _, job in shop.seen.claims), at_most_ms=60_000)
    shop.run_for(60_000)
    shop.engine.configure(shop.engine.config.patched({"outage": "off"}))
    forecast = ahead(shop).drain_s
    assert forecast == close_to(drained_within_s(shop))


def test_a_paused_tenant_has_no_drain_time(world: Any) -> None:
    shop = world()
    shop.enqueue("o-1")
    shop.store.pause("acme")
    assert ahead(shop).drain_s is None


def test_jobs_that_will_pass_their_horizon_are_announced_while_there_is_time(world: Any) -> None:
    shop = world()
    shop.enqueue(*(f"o-{number}" for number in range(1_200)))
    announced = ahead(shop, horizon_s=160).late
    start = shop.now_ms
    shop.run_until(shop.finished, at_most_ms=24 * 3_600_000)
    late = sum(1 for at, _ in shop.seen.claims if at > start + 160_000)
    assert late > 200
    assert announced == close_to(late)


def test_nothing_is_announced_as_late_when_all_will_be_in_time(world: Any) -> None:
    shop = world()
    shop.enqueue(*(f"o-{number}" for number in range(1_000)))
    assert ahead(shop).late == 0
