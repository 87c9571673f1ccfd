"""A worker that hangs turns unhealthy and ends, whatever the reason; one that merely waits does not."""

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.frozen import resume, suspend
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import let_pass, wait_until
from tests.support.workers import deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, free_port

pytestmark = [pytest.mark.chaos, pytest.mark.system]

HASTE = """
import trackdesk_worker.process.watchdog as watchdog, trackdesk_worker.telemetry.health as health
watchdog.STUCK_S, watchdog.GRACE_S, watchdog.FROZEN_S, watchdog.PERIOD_S = 3.0, 1.0, 4.0, 0.2
health.Health.live.__defaults__ = (3.0,)
"""
"""A watchdog in a hurry: the code is the same, the test is shorter. The slow tests keep the real times."""

ONCE = """
import os, sys, threading, time
def struck():
    return os.path.exists(os.environ["STRIKE"])
"""
STUCK = {
    "the delivery's event loop is blocked": (
        """
from trackdesk_worker.delivery.loop import DeliveryLoop
trip = DeliveryLoop._round_trip
async def stuck(self):
    if struck():
        time.sleep(1000)
    await trip(self)
DeliveryLoop._round_trip = stuck
""",
        "no beat: delivery for",
    ),
    "the delivery waits for what never comes": (
        """
import asyncio
from trackdesk_worker.delivery.loop import DeliveryLoop
trip = DeliveryLoop._round_trip
async def stuck(self):
    if struck():
        await asyncio.Event().wait()
    await trip(self)
DeliveryLoop._round_trip = stuck
""",
        "no beat: delivery for",
    ),
    "the delivery's thread is gone without a word": (
        """
from trackdesk_worker.delivery.loop import DeliveryLoop
trip = DeliveryLoop._round_trip
async def gone(self):
    if struck():
        raise SystemExit
    await trip(self)
DeliveryLoop._round_trip = gone
""",
        "no beat: delivery for",
    ),
    "the maintenance's thread is gone": (
        """
from trackdesk_worker.maintenance.loop import (Maintenance)
once = Maintenance.run_once
def gone(self):
    if struck():
        raise SystemExit
    return once(self)
Maintenance.run_once = gone
""",
        "no beat: maintenance for",
    ),
    "the maintenance hangs": (
        """
from trackdesk_worker.maintenance.loop import (Maintenance)
once = Maintenance.run_once
def hung(self):
    if struck():
        time.sleep(1000)
    return once(self)
Maintenance.run_once = hung
""",
        "no beat: maintenance for",
    ),
    "Celery never connects again although Redis is there": (
        """
from trackdesk_worker.process.celery_app import Listener
connect = Listener.ensure_connected
def never(self, conn):
    if struck():
        time.sleep(1000)
    return connect(self, conn)
Listener.ensure_connected = never
""",
        "no beat: consumer for",
    ),
    "Celery's loop hangs": (
        """
from trackdesk_worker.process.runtime import WorkerRuntime
beats = WorkerRuntime.consumer_beats
def hung(self):
    if struck():
        time.sleep(1000)
    beats(self)
WorkerRuntime.consumer_beats = hung
""",
        "no beat: consumer for",
    ),
    "nothing in Python runs any more": (
        """
import ctypes
from trackdesk_worker.delivery.loop import DeliveryLoop
trip = DeliveryLoop._round_trip
async def frozen(self):
    if struck():
        ctypes.PyDLL(None).sleep(1000)  # in C, holding the interpreter's lock
    await trip(self)
DeliveryLoop._round_trip = frozen
""",
        "Timeout",
    ),
}

SMOKE = (
    "the delivery's event loop is blocked",
    "the maintenance's thread is gone",
    "Celery never connects again although Redis is there",
    "nothing in Python runs any more",
)
"""The share of `make test`; the slow test takes every way, with the real times."""


def livez(port: int) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1) as answer:
            return answer.status, json.load(answer)["detail"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["detail"]
    except OSError as error:
        return 0, str(error)


def is_stuck_and_ends(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, way: str, haste: str, within_s: float
) -> None:
    planted, said = STUCK[way]
    strike, port = tmp_path / "strike", free_port()
    with deployment(server, keys, tmp_path, "http://127.0.0.1:1") as run:
        variables = {"STRIKE": str(strike), "TRACKDESK_METRICS_PORT": str(port)}
        worker = run.start_worker(variables, planted=haste + ONCE + planted)
        wait_until(lambda: run.worker_seen() and " ready." in run.log_text(), "the worker and Celery are up")
        wait_until(lambda: livez(port)[0] == 200, "and healthy")
        strike.touch()
        if "never connects" in way:
            run.client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        unhealthy = ""

        def has_ended() -> bool:
            nonlocal unhealthy
            status, detail = livez(port)
            unhealthy = detail if status == 503 else unhealthy
            return worker.poll() is not None

        wait_until(has_ended, run.log_text, within_s=within_s, poll_s=0.05)
        assert worker.returncode == 1, run.log_text()
        assert said in run.log_text()
        stacks = ("Thread 0x",) if said == "Timeout" else ('"threads":', "watchdog.py")
        assert all(part in run.log_text() for part in stacks), "the stacks of all threads are in the log"
        if said.startswith("no beat"):
            assert unhealthy.startswith(said), "unhealthy before it ended"


@pytest.mark.parametrize("server", ["valkey"], indirect=True)
@pytest.mark.parametrize("way", SMOKE)
def test_a_worker_that_stands_still_turns_unhealthy_and_ends(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, way: str, request: pytest.FixtureRequest
) -> None:
    if "Celery never" in way:  # it cuts every connection of the server
        server = request.getfixturevalue("own_server")
    is_stuck_and_ends(server, keys, tmp_path, way, HASTE, 12)


@pytest.mark.slow
@pytest.mark.parametrize("way", STUCK)
def test_a_worker_that_stands_still_ends_within_30_seconds(
    own_server: EmbeddedServer, keys: Keys, tmp_path: Path, way: str
) -> None:
    is_stuck_and_ends(own_server, keys, tmp_path, way, "", 30)


def test_a_worker_whose_connections_are_cut_again_and_again_goes_on(
    own_server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process() as trackdesk,
        deployment(own_server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        worker = run.start_worker(planted=HASTE)
        wait_until(run.worker_seen, "the worker registered ")
        for number in range(30):
            run.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            run.producer.enqueue(sale(f"order-{number}"))
            let_pass(0.1)
        run.wait_until_finished(within_s=15)
        assert worker.poll() is None, run.log_text()
        assert run.book().jobs["delivered"] == 30
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0


@pytest.mark.slow
def test_a_silent_store_is_no_reason_to_end(own_server: EmbeddedServer, keys: Keys, tmp_path: Path) -> None:
    with (
        simulator_process() as trackdesk,
        deployment(own_server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        worker = run.start_worker()
        wait_until(run.worker_seen, "the worker registered ")
        suspend(own_server)
        with pytest.raises(AssertionError, match="not within"):
            wait_until(lambda: worker.poll() is not None, "the worker ended", within_s=60)
        resume(own_server)
        run.producer.enqueue(sale("order-1"))
        run.wait_until_finished(within_s=15)
        with pytest.raises(AssertionError, match="not within"):
            wait_until(lambda: worker.poll() is not None, "the worker ended", within_s=25)
