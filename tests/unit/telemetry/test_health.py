"""Alive, started, ready: three questions, and none of them answers another."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from trackdesk_worker.config.settings import SettingsInvalid, load_settings
from trackdesk_worker.ops.readiness import judge_readiness
from trackdesk_worker.process.celery_app import start_metrics_server
from trackdesk_worker.process.metrics_server import WorkerServer
from trackdesk_worker.telemetry.health import Health, HealthStatus
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.telemetry.probe import probe

Serve = Callable[[Health, Callable[[], HealthStatus]], str]
SAFE = {"maxmemory_policy": "noeviction", "aof_enabled": 1, "aof_last_write_status": "ok"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_process_is_alive_while_every_part_beats() -> None:
    clock = Clock()
    health = Health(clock=clock)
    health.beat("delivery")
    clock.now += 50
    health.beat("maintenance")
    assert health.live(60) == (True, "alive")
    clock.now += 20
    assert health.live(60) == (False, "no beat: delivery for 70 s")
    health.beat("delivery")
    assert health.live(60)[0]


def test_a_part_that_rests_need_not_beat() -> None:
    clock = Clock()
    health = Health(clock=clock)
    health.beat("delivery")
    health.unregister("delivery")
    clock.now += 1000
    assert health.live(60)[0]


def test_a_process_has_started_when_every_expected_part_has_beaten() -> None:
    health = Health(["delivery", "maintenance"])
    assert health.started() == (False, "not started: delivery, maintenance")
    health.beat("delivery")
    assert health.started() == (False, "not started: maintenance")
    health.beat("maintenance")
    assert health.started() == (True, "started")


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([0, SAFE], "ready"),
        ([redis.ReadOnlyError("read only replica"), SAFE], "the store takes no writes: read only replica"),
        ([0, {**SAFE, "maxmemory_policy": "allkeys-lru"}], "maxmemory-policy is allkeys-lru, must be noeviction"),
        ([0, {**SAFE, "aof_enabled": 0}], "appendonly is off"),
        ([0, {**SAFE, "aof_last_write_status": "err"}], "the last write to the append-only file failed"),
        ([0, redis.ResponseError("no")], "the store refuses INFO: no"),
    ],
)
def test_a_store_is_ready_only_if_it_keeps_what_it_takes(replies: list[Any], said: str) -> None:
    verdict = judge_readiness(replies)
    assert verdict == HealthStatus(said == "ready", said)


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[WorkerServer] = []

    def start(health: Health, ready: Callable[[], HealthStatus]) -> str:
        server = WorkerServer("127.0.0.1", 0, registry=WorkerMetrics().registry, health=health, ready=ready)
        servers.append(server)
        server.start()
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server in servers:
        server.stop()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_serves_metrics_and_health(serve: Serve) -> None:
    health = Health(["delivery"])
    url = serve(health, lambda: HealthStatus(True, "ready"))

    assert "trackdesk_build_info{" in get(f"{url}/metrics")[1]
    assert get(f"{url}/livez") == (200, json.dumps({"ok": True, "detail": "alive"}))
    assert get(f"{url}/startupz")[0] == 503
    health.beat("delivery")
    assert get(f"{url}/startupz")[0] == 200
    assert get(f"{url}/readyz")[0] == 200
    assert get(f"{url}/elsewhere")[0] == 404


def test_a_store_that_is_away_makes_a_worker_unready_and_leaves_it_alive(serve: Serve) -> None:
    url = serve(Health(), lambda: HealthStatus(False, "the store cannot be reached: ConnectionError"))

    assert get(f"{url}/readyz")[0] == 503
    assert get(f"{url}/livez")[0] == 200


def test_a_loop_that_stands_still_makes_a_worker_dead(serve: Serve) -> None:
    clock = Clock()
    health = Health(clock=clock)
    health.beat("delivery")
    clock.now += 3600
    status, body = get(f"{serve(health, lambda: HealthStatus(True, 'ready'))}/livez")

    assert (status, json.loads(body)["detail"]) == (503, "no beat: delivery for 3600 s")


def test_a_worker_serves_its_health_on_the_port_of_the_settings_or_says_that_it_cannot() -> None:
    metrics, health = WorkerMetrics(), Health()
    assert start_metrics_server(load_settings(metrics_port=0), metrics, health) is None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsInvalid, match=f"TRACKDESK_METRICS_PORT: 127.0.0.1:{port} cannot be used"):
            start_metrics_server(load_settings(metrics_port=port), metrics, health)
    server = start_metrics_server(load_settings(metrics_port=port), metrics, health)
    assert server is not None
    assert get(f"http://127.0.0.1:{port}/livez")[0] == 200
    server.stop()
    with pytest.raises(urllib.error.URLError):
        get(f"http://127.0.0.1:{port}/livez")


def test_the_health_check_of_the_image_tells_by_its_verdict(serve: Serve) -> None:
    url = serve(Health(["delivery"]), lambda: HealthStatus(True, "ready"))

    assert probe(f"{url}/livez") == (True, '{"ok": true, "detail": "alive"}')
    assert probe(f"{url}/startupz")[0] is False
    assert probe("http://127.0.0.1:1/livez")[0] is False
    assert probe("file:///etc/passwd") == (False, "the address must start with http://")
