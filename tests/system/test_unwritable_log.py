"""A log that cannot be written: every sale is delivered once all the same, and what is lost is counted."""

import os
import re
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, free_port
from trackdesk_worker.ops.audit import audit

SALES = 150
FEW_WAITING = "from trackdesk_worker.telemetry import log_writer\nlog_writer.MOST_WAITING = 3"
CLOSED = """
import os, sys
os.close(1)
os.close(2)
sys.__stderr__ = sys.__stdout__ = sys.stderr = sys.stdout = None
"""


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


UNREAD: list[int] = []


def pipe_nobody_reads() -> int:
    reading, writing = os.pipe()
    UNREAD.append(reading)
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"." * 4096):
            pass
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    return writing


def dropped(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(r'^trackdesk_telemetry_dropped_total\{signal="log"\} (\S+)$', text, re.MULTILINE)
    assert found is not None, text
    return int(float(found[1]))


@pytest.mark.system
@pytest.mark.parametrize("server", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    ("opened", "planted"),
    [(full_disk, None), (closed_pipe, None), (pipe_nobody_reads, FEW_WAITING), (full_disk, CLOSED)],
    ids=["a full disk", "a closed pipe", "a pipe that nobody reads", "no stderr at all"],
)
def test_every_sale_is_delivered_once_by_a_worker_that_cannot_log(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, opened: Callable[[], int], planted: str | None
) -> None:
    ids = [f"order-{number}" for number in range(SALES)]
    port = free_port()
    with simulator_process() as trackdesk, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        output = opened()
        worker = run.start_worker({"TRACKDESK_METRICS_PORT": str(port)}, planted=planted, output=output)
        os.close(output)
        for start in range(0, SALES, 50):
            run.producer.enqueue_many(sale(external_id) for external_id in ids[start : start + 50])
            wait_until(lambda: run.unfinished() == 0, "these are delivered", within_s=30)

        assert run.book().jobs["delivered"] == SALES
        assert trackdesk.exactly_once(ids, tenant="acme").ok
        assert int(run.client.hget(keys.ledger("acme"), "reclaimed") or 0) == 0, "no attempt was spent twice"
        assert dropped(port) > 0
        assert audit(run.store).discrepancies == ()
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        assert time.monotonic() - began < 15
    while UNREAD:
        os.close(UNREAD.pop())
