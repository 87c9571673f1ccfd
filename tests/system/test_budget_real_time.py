"""Trackdesk's budget, in real time: real worker processes against a limiter with 60 s lockouts."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.acting import act_now
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import Deployment, deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

SECONDS = int(os.environ.get("TRACKDESK_TEST_BUDGET_SECONDS", "20"))
"""A smoke share in `make test`; `make test-full` runs for minutes."""
RATE = 5
REDRIVEN = SECONDS * RATE * 2


@pytest.mark.system
@pytest.mark.timeout(120 + SECONDS * 2)
@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_four_processes_with_live_retry_and_redrive_work_use_the_budget_and_are_never_locked_out(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process(types={"sale": {"configured": False}, "lead": {"kind": "fixed"}}) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        ids = [f"old-{number}" for number in range(REDRIVEN)]
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        run.start_worker({"TRACKDESK_RATE_LIMIT": "0"})
        wait_until(lambda: run.book().jobs[State.DEAD] == REDRIVEN, "all refused: the type is not configured")
        first = run.workers[0]
        first.send_signal(signal.SIGTERM)
        first.wait(15)
        trackdesk.configure(
            {
                "types": {"sale": {"configured": True}, "lead": {"kind": "fixed"}},
                "rate_limit": {"per_s": RATE, "lockout_s": 60},
                "faults": {"error_rate": 0.05, "error_statuses": [503]},
            }
        )
        for start in range(0, REDRIVEN, 200):
            batch = [f"acme/{external_id}" for external_id in ids[start : start + 200]]
            act_now(run.store, "redrive", batch)
        for _ in range(4):
            run.start_worker({"TRACKDESK_RATE_LIMIT": str(RATE), "TRACKDESK_BACKOFF_BASE_S": "1"})
        wait_until(lambda: trackdesk.stats()["requests"] > REDRIVEN, "the redrive began")

        begun, sent_before = time.monotonic(), trackdesk.stats()["requests"]
        waits = _live_sales(run, SECONDS)
        used = (trackdesk.stats()["requests"] - sent_before) / (time.monotonic() - begun) / RATE

        stats = trackdesk.stats()
        assert (stats["rate_limited"], stats["lockouts"]) == (0, 0)
        assert used >= 0.95, f"{used:.1%} of the budget"
        assert waits[min(len(waits) - 1, len(waits) * 99 // 100)] < 2.0, waits[-5:]
        assert audit(run.store).discrepancies == ()


def _live_sales(run: Deployment, seconds: int) -> list[float]:
    """Enqueue a live sale a second and return, sorted, how long each waited until it had left the queue."""
    waiting: dict[str, float] = {}
    waits: list[float] = []
    begun = time.monotonic()

    def all_have_left() -> bool:
        now = time.monotonic()
        if now < begun + seconds and len(waits) + len(waiting) < now - begun:
            external_id = f"live-{len(waits) + len(waiting)}"
            run.producer.enqueue(sale(external_id))
            waiting[external_id] = now
        for external_id, since in list(waiting.items()):
            status = run.producer.get(external_id)
            if status is not None and (status.attempts or status.state is not State.READY):
                waits.append(time.monotonic() - since)
                del waiting[external_id]
        return now >= begun + seconds and not waiting

    wait_until(all_have_left, "all live sales have left the queue", within_s=seconds + 30, poll_s=0.05)
    return sorted(waits)
