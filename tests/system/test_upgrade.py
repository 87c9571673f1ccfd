"""Two releases side by side, an upgrade, a rollback: no sale lost, none paid twice, none touched that is not theirs."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.next_release import ADDED, REARRANGED, planted
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, Deployment, deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]


def sell(run: Deployment, prefix: str, count: int) -> list[str]:
    """Sell with this release's producer."""
    ids = [f"{prefix}-{number}" for number in range(count)]
    receipts = run.producer.enqueue_many(sale(external_id) for external_id in ids)
    assert all(receipt.ok for receipt in receipts)
    return ids


def of_release(run: Deployment, kind: str, *arguments: str) -> str:
    """Run a command of another release to its end; return what it printed."""
    program = f"{planted(kind)}\nimport sys\nfrom trackdesk_worker.cli import run\nsys.exit(run())"
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **run.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def sell_with(run: Deployment, kind: str, prefix: str, count: int) -> list[str]:
    """Sell with the producer of another release."""
    ids = [f"{prefix}-{number}" for number in range(count)]
    file = run.logs / f"{prefix}.jsonl"
    file.write_text("\n".join(json.dumps(sale(external_id)) for external_id in ids))
    of_release(run, kind, "import", str(file))
    return ids


def stop(worker: "subprocess.Popen[bytes]") -> None:
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def workers_seen(run: Deployment) -> int:
    return int(run.client.zcard(run.keys.workers))


def test_neighbouring_releases_work_side_by_side_and_the_upgrade_can_be_taken_back_under_load(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process(latency_s=0.2, seed=7) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        old, new = run.start_worker(), run.start_worker(planted=planted(ADDED))
        wait_until(lambda: workers_seen(run) == 2, "both registered")
        ids = sell_with(run, ADDED, "both-new", 300) + sell(run, "both-old", 300)  # last what takes no process to start
        wait_until(lambda: workers_seen(run) == 2 and bool(trackdesk.stats()["in_flight"]), "both at work")
        stop(old)
        ids += sell(run, "upgraded", 200)
        back = run.start_worker()
        stop(new)
        ids += sell_with(run, ADDED, "rolled-back", 200)
        book = run.wait_until_finished()

        assert book.jobs["delivered"] == len(ids)
        assert book.jobs["delivered_paired"] == len(ids), "no claim was lost on the way: nothing was sent again"
        assert (book.jobs["orphaned_entries"], run.client.zcard(keys.newer)) == (0, 0)
        once = trackdesk.exactly_once(ids, tenant="acme")
        assert once.ok, once
        assert audit(run.store).discrepancies == ()
        stop(back)


def test_what_only_a_newer_release_can_read_waits_untouched_for_its_return(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    with (
        simulator_process(latency_s=0.05, seed=7) as trackdesk,
        deployment(server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        theirs = sell_with(run, REARRANGED, "theirs", 150)
        before = {name: run.client.get(keys.job(f"acme/{name}")) for name in theirs}
        assert all(raw and raw.startswith(b"2 ") for raw in before.values())
        old = run.start_worker()
        mine = sell(run, "mine", 150)
        wait_until(lambda: run.book().jobs["delivered"] == len(mine), "this release delivers its own")
        wait_until(lambda: run.client.zcard(keys.newer) == len(theirs), "the others stand aside")
        assert {name: run.client.get(keys.job(f"acme/{name}")) for name in theirs} == before
        wait_until(lambda: "maintenance.newer_records" in run.log_text(), "it says so")
        assert trackdesk.exactly_once(mine, tenant="acme").ok, "and sends nothing of theirs"

        run.start_worker(planted=planted(REARRANGED))
        mine += sell(run, "mine-too", 50)
        theirs += sell_with(run, REARRANGED, "theirs-too", 50)
        book = run.wait_until_finished()
        stop(old)

        assert book.jobs["delivered_paired"] == len(mine) + len(theirs)
        assert (book.jobs["orphaned_entries"], run.client.zcard(keys.newer)) == (0, 0)
        once = trackdesk.exactly_once(mine + theirs, tenant="acme")
        assert once.ok, once
        assert "everything agrees" in of_release(run, REARRANGED, "audit")
