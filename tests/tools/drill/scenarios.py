"""What to break, the alerts that must fire, and how to repair it: one scenario per kind of trouble."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.simulator import sale
from tests.support.waiting import wait_until
from tests.tools.drill.stack import TENANT, Stack
from trackdesk_producer import EnqueueItem
from trackdesk_producer.errors import ProducerError

PATIENCE_S = 180.0
SLOW_TO_RESOLVE = {"TrackdeskSalesLateSlow", "TrackdeskDurabilityNotMet"}
"""Their windows are days: waited for at the end of the drill."""
Act = Callable[[Stack], object]


@dataclass(frozen=True)
class Scenario:
    """What to break, what must fire, and how to repair it."""

    name: str
    alerts: Sequence[str]
    damage: Act
    repair: Act
    quiet: Sequence[str] = ()
    """What must not fire meanwhile."""
    about: Callable[[dict[str, str]], bool] = lambda _: True
    """Whether an alert with these labels is about it."""


def _configure(**settings: object) -> Act:
    return lambda s: s.simulator.configure({"tenants": {TENANT: settings}})


def _stop_simulator(s: Stack) -> None:
    s.simulator.kill()
    # Until what waits is later than the objective, which is five seconds now.
    wait_until(lambda: s.watch.firing("TrackdeskBreakerOpen"), "the breaker's alert", within_s=PATIENCE_S)
    s.start_simulator()


def _resume(s: Stack) -> None:
    s.simulator.configure({"tenants": {TENANT: {"key_mode": "optional"}}})
    s.trackdesk_command("resume", TENANT)


def _fill(s: Stack) -> None:
    used = int(s.client.info("memory")["used_memory"])
    s.client.config_set("maxmemory", used + 8_000_000)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for batch in range(200):
        items = [
            EnqueueItem(sale(f"fill-{batch}-{n}", customerId="x" * 200), tenant="bulk", not_before=tomorrow)
            for n in range(500)
        ]
        if not all(receipt.ok for receipt in s.running.producer.enqueue_many(items)):
            return
    raise AssertionError("the store would not fill")


def _kill_worker(s: Stack) -> None:
    s.end(s.worker)


def _start_worker(s: Stack) -> None:
    s.worker = s.start_worker(s.metrics_port)


def _start_worker_on_a_full_disk(s: Stack) -> None:
    s.end(s.worker)
    with Path("/dev/full").open("wb") as full:
        s.worker = s.start_worker(s.metrics_port, output=full)


def _start_worker_again(s: Stack) -> None:
    _kill_worker(s)
    _start_worker(s)


def _plans_unreadable(s: Stack) -> None:
    s.client.set(s.running.keys.plans_open, "no sorted set")


def _plans_readable(s: Stack) -> None:
    s.client.delete(s.running.keys.plans_open)


def _tenants_file(content: str) -> Act:
    return lambda s: s.tenants_file.write_text(content, "utf-8")


def _kill_console(s: Stack) -> None:
    s.end(s.console)


def _start_console(s: Stack) -> None:
    s.console = s.start_console()


def _store_config(name: str, value: str) -> Act:
    return lambda s: s.client.config_set(name, value)


def _disk_full(s: Stack) -> None:
    pid = s.server.pid
    assert pid is not None
    largest = max(file.stat().st_size for file in (s.server.directory / "appendonlydir").iterdir())
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))


def _disk_freed(s: Stack) -> None:
    pid = s.server.pid
    assert pid is not None
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _shift_books(by: int) -> Act:
    return lambda s: s.client.hincrby(s.running.keys.ledger(TENANT), "ready", by)


def _sell_as(**changes: object) -> Act:
    def act(s: Stack) -> None:
        s.seller.changes = changes

    return act


def _redrive(s: Stack) -> None:
    s.simulator.configure({"tenants": {TENANT: {"types": {"sale": {"configured": True}}}}})
    s.trackdesk_command("redrive", "--all", "--reason", "drill: the type was added", "--yes")


def _conflicts(s: Stack) -> None:
    for number in range(1, 31):
        try:
            s.running.producer.enqueue(sale(f"shop-{number}", amount={"value": "1"}))
        except ProducerError:
            continue


def _pause(s: Stack) -> None:
    s.trackdesk_command("pause", TENANT, "--reason", "drill")


def _unpause(s: Stack) -> None:
    s.trackdesk_command("resume", TENANT)


def _unseen_worker(s: Stack) -> None:
    s.extra = s.start_worker(0)


def _end_unseen_worker(s: Stack) -> None:
    s.extra.terminate()
    s.extra.wait(60)


def _backlog(s: Stack) -> None:
    s.tenants_file.write_text("[slow]\nrate_limit = 5\nhorizon_s = 240\n", "utf-8")
    items = [EnqueueItem(sale(f"import-{n}"), tenant="slow") for n in range(2_500)]
    assert all(receipt.ok for receipt in s.running.producer.enqueue_many(items))


def _faster(s: Stack) -> None:
    s.tenants_file.write_text("[slow]\nrate_limit = 0\nhorizon_s = 240\n", "utf-8")


def _newer(s: Stack) -> None:
    s.client.set(s.running.keys.job(f"{TENANT}/newer"), "99 of a release to come\n{}")
    s.client.zadd(s.running.keys.newer, {f"{TENANT}/newer": 1})


def _older(s: Stack) -> None:
    s.client.delete(s.running.keys.job(f"{TENANT}/newer"))


def _start_replica(s: Stack) -> None:
    s.replica.start()


def _label(name: str, value: str) -> Callable[[dict[str, str]], bool]:
    return lambda labels: labels.get(name) == value


SCENARIOS = (
    Scenario(
        "the simulator is stopped",
        ["TrackdeskBreakerOpen", "TrackdeskSalesLateFast", "TrackdeskSalesLateSlow"],
        _stop_simulator,
        lambda _: None,
        quiet=["TrackdeskWorkOverdue", "TrackdeskTenantHeld"],
    ),
    Scenario(
        "the workers are killed",
        ["TrackdeskNoWorkers", "TrackdeskWorkOverdue"],
        _kill_worker,
        _start_worker,
        quiet=["TrackdeskStoreUnreadable"],
    ),
    Scenario("the key is refused (401)", ["TrackdeskTenantHeld"], _configure(key_mode="revoked"), _resume),
    Scenario("a tenant stays paused", ["TrackdeskTenantPaused"], _pause, _unpause, quiet=["TrackdeskWorkOverdue"]),
    Scenario("Redis is killed", ["TrackdeskStoreUnreadable"], lambda s: s.server.kill(), lambda s: s.server.start()),
    Scenario(
        "its disk is full",
        ["TrackdeskRedisUnsafe"],
        _disk_full,
        _disk_freed,
        about=_label("danger", "writes to its append-only file fail"),
    ),
    Scenario(
        "its append-only file is switched off",
        ["TrackdeskRedisUnsafe"],
        _store_config("appendonly", "no"),
        _store_config("appendonly", "yes"),
        about=_label("danger", "its append-only file is off"),
    ),
    Scenario(
        "it may evict",
        ["TrackdeskRedisUnsafe"],
        _store_config("maxmemory-policy", "allkeys-lru"),
        _store_config("maxmemory-policy", "noeviction"),
        about=_label("danger", "it may evict keys"),
    ),
    Scenario(
        "Redis is filled",
        ["TrackdeskAdmissionClosed", "TrackdeskRedisFilling"],
        _fill,
        _store_config("maxmemory", "0"),
    ),
    Scenario("the exporter is killed", ["TrackdeskMetricsAbsent"], _kill_console, _start_console),
    Scenario("a column of the books is changed", ["TrackdeskBooksOutOfBalance"], _shift_books(1), _shift_books(-1)),
    Scenario(
        "dead letters grow",
        ["TrackdeskDeadLettersGrowing"],
        _configure(types={"sale": {"configured": False}}),
        _redrive,
    ),
    Scenario(
        "Trackdesk's limit is lower than ours",
        ["TrackdeskRateLimited"],
        _configure(rate_limit={"per_s": 1, "lockout_s": 1, "retry_after": True}),
        _configure(rate_limit=None),
    ),
    Scenario("click ids are lost", ["TrackdeskUnpairedRising"], _sell_as(cid="unpaired-1"), _sell_as()),
    Scenario("known ids with other amounts", ["TrackdeskConflictsRising"], _conflicts, lambda _: None),
    Scenario("a worker nobody scrapes", ["TrackdeskWorkersUnseen"], _unseen_worker, _end_unseen_worker),
    Scenario("a record of a newer release", ["TrackdeskNewerRecords"], _newer, _older),
    Scenario(
        "a list that the plans' duty reads is damaged", ["TrackdeskDutyFailing"], _plans_unreadable, _plans_readable
    ),
    Scenario("the tenants file is wrong", ["TrackdeskTenantsFileRefused"], _tenants_file("[slow"), _tenants_file("")),
    Scenario(
        "a worker's log cannot be written",
        ["TrackdeskTelemetryDropped"],
        _start_worker_on_a_full_disk,
        _start_worker_again,
    ),
    Scenario(
        "an import beyond the budget",
        ["TrackdeskSalesWillBeLate", "TrackdeskBudgetTooSmall"],
        _backlog,
        _faster,
        quiet=["TrackdeskWorkOverdue"],
    ),
    Scenario("the replica is lost", ["TrackdeskDurabilityNotMet"], lambda s: s.replica.kill(), _start_replica),
)
