"""A Trackdesk that means harm, and sales that break the sender: bounded, classified, never delivered by mistake."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.raw_http import Handler, RawRequest, always, answer, raw_server
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import let_pass_async, wait_until
from tests.support.workers import deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

MB = 1024 * 1024
GROWTH_MB = 60
"""What a worker may grow by under attack. The bodies below are far larger than that."""
PAIRED = b'{"cid":"x","message":"ok"}'
IMPATIENT = {
    "TRACKDESK_TIMEOUT_S": "1",
    "TRACKDESK_LEASE_S": "3",
    "TRACKDESK_MAX_ATTEMPTS": "2",
    "TRACKDESK_BACKOFF_BASE_S": "0.1",
    "TRACKDESK_BACKOFF_CAP_S": "0.2",
    "TRACKDESK_BREAKER_FAILURES": "1000",
}


async def endless_body(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        await writer.drain()


async def slow_loris(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X")
        await writer.drain()
        await let_pass_async(0.1)


async def header_flood(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(200_000):
        writer.write(b"X-%d: %s\r\n" % (number, b"a" * 200))
        await writer.drain()


async def one_at_a_time(_: RawRequest, writer: asyncio.StreamWriter) -> None:
    body = b" " * 100 + PAIRED
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
    for byte in body:
        writer.write(bytes([byte]))
        await writer.drain()
        await let_pass_async(0.05)


ANSWERS: dict[str, Handler] = {
    "an endless body": endless_body,
    "a header a byte at a time": slow_loris,
    "a body a byte at a time": one_at_a_time,
    "a flood of headers": header_flood,
    "a gzip bomb": always(
        answer(gzip.compress(b'{"cid":"' + b"x" * (200 * MB) + b'"}', 1), headers=b"Content-Encoding: gzip\r\n")
    ),
    "a body shorter than its length": always(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + PAIRED, close=True),
    "two lengths": always(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 26\r\n\r\n" + PAIRED, close=True),
    "a redirect to itself": always(answer(b"", status="302 Found", headers=b"Location: /\r\n")),
    "a redirect to another host": always(
        answer(b"", status="307 Temporary Redirect", headers=b"Location: http://127.0.0.1:1/\r\n")
    ),
    "deeply nested JSON": always(answer(b"[" * 16_000)),
    "no HTTP at all": always(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50, close=True),
    "an endless row of interim answers": always(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000),
    "a number with a million digits": always(answer(b'{"code":' + b"9" * 15_000 + b"}", status="400 Bad Request")),
}


@contextmanager
def hostile(handler: Handler) -> Iterator[str]:
    """Serve from a thread; give the base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = raw_server(handler)
    record = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield record.base_url
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def peak_mb(pid: int) -> float:
    """Return the most memory a process ever had."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def test_no_answer_harms_a_worker_or_passes_for_a_delivery(server: EmbeddedServer, keys: Keys, tmp_path: Path) -> None:
    """All of them at once, a tenant each, beside one that behaves; the good one's sales go on all the while."""

    async def by_tenant(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        tenant = request.first_line.split(b"/")[1].decode()
        handler = always(answer(PAIRED)) if tenant == "good" else list(ANSWERS.values())[int(tenant.removeprefix("t"))]
        await handler(request, writer)

    with hostile(by_tenant) as url, deployment(server, keys, tmp_path, url + "/{tenant}") as run:
        worker = run.start_worker(IMPATIENT)
        run.producer.enqueue(sale("warm"), tenant="good")
        wait_until(lambda: run.book().jobs[State.DELIVERED] == 1, "the worker delivers")
        before = peak_mb(worker.pid)
        for number in range(len(ANSWERS)):
            for n in range(3):
                run.producer.enqueue(sale(f"order-{n}"), tenant=f"t{number}")
        slowest = 0.0
        for number in range(10):
            started = time.monotonic()
            run.producer.enqueue(sale(f"order-{number}"), tenant="good")
            wait_until(
                lambda: run.producer.get(f"order-{number}", tenant="good").state is State.DELIVERED,  # noqa: B023
                "the good tenant's sale is delivered",
            )
            slowest = max(slowest, time.monotonic() - started)
        book = run.wait_until_finished(within_s=60)

        assert worker.poll() is None, run.log_text()
        assert book.jobs[State.DELIVERED] == 11, "nothing hostile passes for a delivery"
        assert book.jobs[State.DEAD] == 3 * len(ANSWERS)
        assert slowest < 10
        grown = peak_mb(worker.pid) - before
        assert grown < GROWTH_MB, f"grew by {grown:.0f} MB"
        assert "delivery.crashed" not in run.log_text()
        reasons = {
            answered: {
                json.loads(run.client.lindex(keys.history(f"t{number}/order-{n}"), -1))["reason"] for n in range(3)
            }
            for number, answered in enumerate(ANSWERS)
        }
        print(f"grew {grown:.0f} MB, slowest good sale {slowest:.2f} s", reasons)
        assert audit(run.store).discrepancies == ()


CRASH = """
import os
from trackdesk_worker.delivery.attempt import Attempts
make = Attempts.make
async def poisoned(self, job, clock):
    if "poison" in job.id:
        {how}
    return await make(self, job, clock)
Attempts.make = poisoned
"""


@pytest.mark.parametrize(("how", "within_s"), [("raise RecursionError", 60), ("os._exit(139)", 90)])
def test_a_sale_that_crashes_its_sender_is_bounded_by_attempts_and_the_others_go_on(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, how: str, within_s: float
) -> None:
    with simulator_process() as trackdesk, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        ids = [f"order-{number}" for number in range(20)]
        run.producer.enqueue_many(sale(external_id) for external_id in [*ids[:10], "poison", *ids[10:]])
        variables = {
            **IMPATIENT,
            "TRACKDESK_LEASE_S": "2.1",
            "TRACKDESK_CONCURRENCY": "4",
            "TRACKDESK_MAX_ATTEMPTS": "5",
        }
        starts = 0

        def finished() -> bool:
            nonlocal starts
            if not run.workers or run.workers[-1].poll() is not None:  # the supervisor's part
                run.start_worker(variables, planted=CRASH.format(how=how))
                starts += 1
            return run.unfinished() == 0

        wait_until(finished, run.log_text, within_s=within_s, poll_s=0.05)
        jobs = run.book().jobs
        assert (jobs[State.DELIVERED], jobs[State.DEAD]) == (20, 1), jobs
        status = run.producer.get("poison")
        assert status is not None
        assert (status.reason, status.attempts) == ("lost", 5)
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()
