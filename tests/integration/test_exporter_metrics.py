"""What the exporter says of a store, by real scrapes of a real one."""

import asyncio
import math
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import server_binary
from tests.support.frozen import resume, suspend
from tests.support.store import Item, Store
from tests.support.waiting import wait_until
from trackdesk_producer import Durability
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.limits import Shares
from trackdesk_worker.exporter.app import create_app
from trackdesk_worker.exporter.durability_probe import DurabilityProbe
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.store.snapshot import aread_snapshot
from trackdesk_worker.telemetry.catalogue import EXPORTER_METRICS, MetricKind
from trackdesk_worker.telemetry.labels import OTHER, TENANT, TENANTS_NAMED, VERSION, DurabilityResult, TenantNames

Scrape = dict[str, dict[frozenset[tuple[str, str]], float]]
MakeExporter = Callable[..., "Exporter"]

FORECASTER = Forecaster(Tenants(load_settings()), Shares())


class Exporter:
    """The application over one store, asked without a socket between."""

    def __init__(self, port: int, keys: Keys, names: TenantNames | None = None, timeout_s: float = 5.0) -> None:
        self.store = AsyncJobStore(redis.asyncio.Redis(port=port, socket_timeout=10, protocol=2), keys)
        app = create_app(self.store, forecast=FORECASTER, names=names, timeout_s=timeout_s)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://exporter")

    async def scrape(self) -> Scrape:
        answer = await self.http.get("/metrics")
        assert answer.status_code == 200
        found: Scrape = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return found

    async def value(self, name: str, **labels: str) -> float:
        return (await self.scrape())[name][frozenset(labels.items())]


@pytest.fixture
async def exporter() -> AsyncIterator[MakeExporter]:
    made: list[Exporter] = []

    def make(*args: Any, **kwargs: Any) -> Exporter:
        made.append(Exporter(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        await one.http.aclose()
        await one.store.aclose()


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    """A store whose clock starts at the present: the exporter's clock is Redis' own."""
    store = Store(client, keys)
    seconds, micros = client.time()
    store.now_ms = seconds * 1000 + micros // 1000
    return store


async def test_every_metric_of_the_catalogue_is_exported_and_no_other(
    exporter: MakeExporter, own_server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    client = redis.Redis(port=own_server.port)
    store = Store(client, keys)
    replica = EmbeddedServer(tmp_path / "replica", config={"replicaof": f"127.0.0.1 {own_server.port}"})
    replica.start()
    wait_until(lambda: client.info("replication")["connected_slaves"] == 1, "a replica")
    store.enqueue(Item("acme/1", "10.50", "EUR"))
    store.enqueue("open/1")
    store.bury("acme/2")
    store.pause("acme")
    answer = await exporter(own_server.port, keys).http.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    replica.stop()
    client.close()

    promised = {m.name.removesuffix("_total") if m.kind is MetricKind.COUNTER else m.name: m for m in EXPORTER_METRICS}
    assert families.keys() == promised.keys()
    for name, metric in promised.items():
        assert families[name].type == metric.kind
        names = {tuple(sorted(s.labels.keys() - {"le"})) for s in families[name].samples}
        assert names == {tuple(sorted(metric.label_names))}, name


async def test_jobs_money_and_events_are_those_of_the_books(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.bury("acme/dead", reason="type_not_found")
    store.enqueue(Item("acme/sent", "5", "EUR"))
    store.end(store.claim_one(), Verb.DELIVER)
    store.enqueue(Item("acme/now", "10.50", "EUR"), Item("acme/late", "0.25", "USD", due_ms=store.now_ms + 60_000))
    store.enqueue(Item("acme/now", "10.50", "EUR"))
    store.enqueue(Item("zeta/now", "1", "EUR"))
    found = await exporter(server.port, keys).scrape()

    def value(name: str, **labels: str) -> float:
        return found[name][frozenset(labels.items())]

    states = ("ready", "scheduled", "in_flight", "dead", "delivered", "cancelled", "discarded")
    assert [value("trackdesk_jobs", tenant="acme", state=state) for state in states] == [1, 1, 0, 1, 1, 0, 0]
    assert value("trackdesk_jobs", tenant="zeta", state="ready") == 1
    assert value("trackdesk_accepted_total", tenant="acme") == 4
    assert value("trackdesk_ended_total", tenant="acme", state="delivered") == 1
    assert value("trackdesk_ledger_events_total", event="duplicates") == 1
    assert value("trackdesk_delivered_total", tenant="acme", how="paired") == 1
    assert value("trackdesk_budget_spent_total", tenant="acme") == 2
    assert value("trackdesk_dead_jobs", reason="type_not_found") == 1
    assert value("trackdesk_value_at_risk", state="ready", currency="EUR") == 11.5
    assert value("trackdesk_value_at_risk", state="scheduled", currency="USD") == 0.25
    assert value("trackdesk_wakeups_waiting") > 0
    assert value("trackdesk_audit_residual_jobs") == 0
    assert set(found["trackdesk_audit_residual_money"].values()) == {0}
    assert set(found["trackdesk_index_residual_jobs"].values()) == {0}


async def test_ended_jobs_keep_counting_after_they_are_pruned(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.now_ms -= 10 * 3_600_000
    store.enqueue("acme/1")
    store.end(store.claim_one(), Verb.DELIVER)
    store.now_ms += 10 * 3_600_000
    assert store.prune() == 1
    found = await exporter(server.port, keys).scrape()

    labels = frozenset({("tenant", "acme"), ("state", "delivered")})
    assert found["trackdesk_jobs"][labels] == 0
    assert found["trackdesk_ended_total"][labels] == 1


async def test_work_is_overdue_a_minute_after_it_was_due_and_retries_that_wait_are_not(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.now_ms -= 90_000
    store.enqueue("acme/late")
    store.enqueue("halt/late")
    store.pause("halt")
    store.now_ms += 80_000
    store.enqueue("acme/fresh")
    store.enqueue(Item("acme/tomorrow", due_ms=store.now_ms + 86_400_000))
    found = await exporter(server.port, keys).scrape()

    def of(name: str, state: str, **more: str) -> float:
        return found[name][frozenset({("tenant_state", state), *more.items()})]

    assert 89 < found["trackdesk_oldest_ready_age_seconds"][frozenset()] < 130
    assert of("trackdesk_overdue_jobs", "running", queue="live") == 1
    assert of("trackdesk_overdue_jobs", "running", queue="retry") == 0
    assert 89 < of("trackdesk_oldest_overdue_age_seconds", "running") < 130
    assert of("trackdesk_overdue_jobs", "paused", queue="live") == 1
    assert of("trackdesk_oldest_overdue_age_seconds", "held") == 0


async def test_scheduled_work_that_nobody_promotes_is_overdue(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.now_ms -= 700_000
    store.enqueue(Item("acme/1", due_ms=store.now_ms + 100_000))
    one = exporter(server.port, keys)

    assert 590 < await one.value("trackdesk_oldest_overdue_age_seconds", tenant_state="running") < 640
    assert await one.value("trackdesk_overdue_jobs", tenant_state="running", queue="scheduled") == 1


async def test_tenants_that_stand_still_are_named_with_the_reason(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue("run/1", "halt/1", "held/1", "cold/1", "thawed/1")
    store.pause("halt")
    store.hold("held", "unauthorized", 60_000)
    store.freeze("cold", 60_000)
    store.freeze("thawed", 0)
    found = await exporter(server.port, keys).scrape()

    blocked = {(dict(labels)["tenant"], dict(labels)["reason"]) for labels in found["trackdesk_tenants_blocked"]}
    assert blocked == {("halt", "paused"), ("held", "held"), ("cold", "frozen")}
    assert found["trackdesk_tenants"][frozenset({("tenant_state", "running")})] == 2


async def test_a_backlog_that_the_budget_explains_differs_from_one_without_a_worker(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.now_ms -= 600_000
    store.enqueue(*[f"busy/{n}" for n in range(900)], *[f"idle/{n}" for n in range(50)])
    for tenant in ("busy", "idle"):
        store.client.hset(keys.tenant(tenant), mapping={"rate_us": 200_000, "burst": 2})
    store.pause("idle")
    store.now_ms += 440_000
    for _ in range(400):
        store.now_ms += 400
        assert len(store.claim(100).jobs) == 2
    store.resume("idle")
    one = exporter(server.port, keys)
    overdue = "trackdesk_oldest_overdue_age_seconds"
    found = await one.scrape()
    for state in ("running", "at_budget"):
        assert found[overdue][frozenset({("tenant_state", state)})] > 590

    store.pause("idle")
    store.freeze("idle", 0)
    found = await one.scrape()

    def of(name: str, **labels: str) -> float:
        return found[name][frozenset(labels.items())]

    assert of(overdue, tenant_state="running") == 0
    assert of(overdue, tenant_state="at_budget") > 590
    assert of("trackdesk_overdue_jobs", tenant_state="at_budget", queue="live") == 100
    assert of("trackdesk_waiting_late_jobs", **{"class": "live"}) == 100
    assert of("trackdesk_budget_rate", tenant="busy") == 5
    assert of("trackdesk_budget_rate", tenant="idle") == 0
    assert of("trackdesk_ledger_events_total", event="freezes") == 1


async def test_what_a_durable_enqueue_waits_for_is_tried_in_the_background(
    own_server: EmbeddedServer, server: EmbeddedServer, keys: Keys
) -> None:
    async with redis.asyncio.Redis(port=own_server.port, protocol=2) as client:
        probe = DurabilityProbe(AsyncJobStore(client, keys))
        registry = CollectorRegistry()
        for collector in probe.collectors:
            registry.register(collector)
        assert await probe.once(Durability.FSYNC) is DurabilityResult.MET
        assert await probe.once(Durability.REPLICATED) is DurabilityResult.NOT_MET
        own_server.kill()
        assert await probe.once(Durability.FSYNC) is DurabilityResult.FAILED

    tried = "trackdesk_durability_probes_total"
    assert registry.get_sample_value(tried, {"level": "fsync", "result": "met"}) == 1
    assert registry.get_sample_value(tried, {"level": "fsync", "result": "failed"}) == 1
    assert registry.get_sample_value(tried, {"level": "replicated", "result": "not_met"}) == 1
    assert registry.get_sample_value("trackdesk_durability_wait_seconds_count", {"level": "fsync"}) == 1


async def test_whatever_stands_in_the_store_there_are_never_more_series_than_the_catalogue_allows(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    hostile = [*(f"t{n}" for n in range(60)), "a-tenant-with-a-very-long-name-that-was-made-up"]
    store.enqueue(*[Item(f"{tenant}/1", "1", f"Q{n:02}"[:3]) for n, tenant in enumerate(hostile)])
    for n in range(40):
        store.bury(f"acme/{n}", reason=f"reason_{n}")
    for n, tenant in enumerate(hostile):
        store.client.hset(keys.ledger(tenant), mapping={f"delivered_{n}": 1, f"made_up_{n}": 1, f"dead:Z{n:02}:1": 1})
        store.client.hset(keys.tenant(tenant), "hold", f"https://{n}.example/?customer=jane\n")
    found = await exporter(server.port, keys).scrape()

    assert found["trackdesk_collector_success"][frozenset()] == 1
    most = {TENANT: TENANTS_NAMED + 1, VERSION: 1}
    for metric in EXPORTER_METRICS:
        bound = math.prod(most.get(label, len(label.values) + 1) for label in metric.labels)
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is MetricKind.HISTOGRAM else ("",)
        for suffix in suffixes:
            series = found.get(metric.name + suffix, {})
            assert len(series) <= bound * (len(metric.buckets) + 1 if suffix == "_bucket" else 1), metric.name
            for labels in series:
                for label in metric.labels:
                    assert label in most or dict(labels)[label.name] in {*label.values, OTHER}, metric.name


async def test_no_number_of_tenants_makes_more_series_than_the_cap(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue(*[f"t{n}/{i}" for n in range(30) for i in range(2 if n < 3 else 1)])
    one = exporter(server.port, keys, names=TenantNames(3))
    accepted = (await one.scrape())["trackdesk_accepted_total"]

    assert accepted == {
        frozenset({("tenant", name)}): n for name, n in {"t0": 2, "t1": 2, "t2": 2, "other": 27}.items()
    }


async def test_reasons_and_currencies_nobody_knows_become_other(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.bury("acme/1", reason="a_reason_of_tomorrow")
    store.enqueue(Item("acme/2", "3", "QQQ"))
    one = exporter(server.port, keys)

    assert await one.value("trackdesk_dead_jobs", reason="other") == 1
    assert await one.value("trackdesk_value_at_risk", state="ready", currency="other") == 3


async def test_a_surplus_of_one_tenant_does_not_hide_a_loss_of_another(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue(Item("acme/1", "3", "EUR"), Item("zeta/1", "3", "EUR"))
    for tenant, sign in (("acme", 1), ("zeta", -1)):
        store.client.hincrby(keys.ledger(tenant), "ready", sign)
        store.client.hincrby(keys.ledger(tenant), "ready:EUR:1", sign * 3)
    one = exporter(server.port, keys)

    assert await one.value("trackdesk_audit_residual_jobs") == 2
    assert await one.value("trackdesk_audit_residual_money", currency="EUR") == 6


async def test_a_job_that_a_newer_release_wrote_stands_aside_and_is_no_loss(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue("acme/1", "acme/2")
    store.client.zrem(keys.ready("acme", "live"), "acme/1")
    store.client.zadd(keys.newer, {"acme/1": store.now_ms})
    found = await exporter(server.port, keys).scrape()

    assert found["trackdesk_newer_jobs"][frozenset()] == 1
    assert set(found["trackdesk_index_residual_jobs"].values()) == {0}


async def test_an_index_that_lost_a_job_shows(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue("acme/1", "acme/2")
    store.client.zrem(keys.ready("acme", "live"), "acme/1")

    assert await exporter(server.port, keys).value("trackdesk_index_residual_jobs", state="ready") == -1


async def test_workers_count_while_their_heartbeat_is_fresh(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.client.zadd(keys.workers, {"a": store.now_ms, "b": store.now_ms - 5_000, "gone": store.now_ms - 60_000})

    assert await exporter(server.port, keys).value("trackdesk_workers") == 2


async def test_a_closed_admission_and_the_state_of_redis_are_exported(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    one = exporter(server.port, keys)
    assert await one.value("trackdesk_admission_closed") == 0
    store.client.set(keys.admission, "closed")
    found = await one.scrape()

    assert found["trackdesk_admission_closed"][frozenset()] == 1
    for fact in ("aof_enabled", "aof_write_ok", "noeviction", "master"):
        assert found[f"trackdesk_redis_{fact}"][frozenset()] == 1, fact
    assert found["trackdesk_redis_memory_used_bytes"][frozenset()] > 100_000
    assert found["trackdesk_redis_memory_max_bytes"][frozenset()] == 0


async def test_a_store_that_falls_silent_leaves_no_stale_numbers_and_comes_back(
    exporter: MakeExporter, own_server: EmbeddedServer, keys: Keys
) -> None:
    one = exporter(own_server.port, keys, timeout_s=0.3)
    assert await one.value("trackdesk_workers") == 0

    suspend(own_server)
    began = time.monotonic()
    found = await one.scrape()
    assert time.monotonic() - began < 2
    assert found["trackdesk_collector_success"] == {frozenset(): 0}
    assert {name for name in found if not name.startswith("trackdesk_durability_")} == {
        *("trackdesk_build_info", "trackdesk_collector_success", "trackdesk_collector_duration_seconds")
    }

    resume(own_server)
    assert await one.value("trackdesk_collector_success") == 1
    own_server.kill()
    assert await one.value("trackdesk_collector_success") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="fills the disk of one process, as only Linux can")
async def test_a_replica_and_a_disk_that_refuses_are_reported_and_the_exporter_goes_on(
    exporter: MakeExporter, keys: Keys, tmp_path: Path
) -> None:
    starter = tmp_path / "server.sh"  # a full disk must be an error to the server, and not its death
    starter.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {server_binary('valkey')} \"$@\"\n", "utf-8")
    starter.chmod(0o755)
    server = EmbeddedServer(tmp_path / "store", binary=starter)
    server.start()
    assert server.pid is not None
    try:
        with redis.Redis(port=server.port) as client:
            store = Store(client, keys)
            store.enqueue("acme/1")
            one = exporter(server.port, keys)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            wait_until(lambda: store_refuses(store), "a disk that refuses")
            found = await one.scrape()
            assert found["trackdesk_redis_aof_write_ok"][frozenset()] == 0
            assert found["trackdesk_jobs"][frozenset({("tenant", "acme"), ("state", "ready")})] == 1

            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            wait_until(lambda: not store_refuses(store), "a disk that takes writes again")
            client.replicaof("127.0.0.1", 1)
            assert await one.value("trackdesk_redis_master") == 0
    finally:
        server.kill()


def store_refuses(store: Store) -> bool:
    try:
        store.client.incrby(store.keys.sequence, 0)
    except redis.ResponseError:
        return True
    return False


async def test_books_that_cannot_be_read_fail_the_scrape_and_not_the_exporter(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue("acme/1")
    store.client.hset(keys.ledger("acme"), "ready", "many")

    assert await exporter(server.port, keys).value("trackdesk_collector_success") == 0


async def test_the_cost_of_a_scrape_does_not_grow_with_the_jobs(
    server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    async def commands_of_a_reading() -> int:
        async with redis.asyncio.Redis(port=server.port, protocol=2) as client:
            before = (await client.info("stats"))["total_commands_processed"]
            await aread_snapshot(AsyncJobStore(client, keys), sample=4)
            return int((await client.info("stats"))["total_commands_processed"]) - int(before)

    store.enqueue(*[f"acme/{n}" for n in range(20)])
    few = await commands_of_a_reading()
    store.enqueue(*[f"acme/{n}" for n in range(20, 3000)])

    assert await commands_of_a_reading() == few


async def test_scrapes_at_the_same_time_all_answer(
    exporter: MakeExporter, server: EmbeddedServer, keys: Keys, store: Store
) -> None:
    store.enqueue("acme/1")
    one = exporter(server.port, keys)
    answers = await asyncio.gather(*[one.value("trackdesk_collector_success") for _ in range(20)])

    assert answers == [1] * 20


def test_the_servers_of_these_tests_are_persistent(server: EmbeddedServer) -> None:
    with redis.Redis(port=server.port) as client:
        assert client.info("persistence")["aof_enabled"] == 1
