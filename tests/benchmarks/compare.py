"""``make bench``: our own scenarios, then each peer against our worker in alternating runs; writes RESULTS.md.

    python -m tests.benchmarks.compare [--quick] [--short] [--runs N] [--only PEER] [--peers-only] [--prepare]

A pair is our worker and one peer, one right after the other, on the same stub and on servers of the same build and
settings; ratios are taken within pairs. Each delivers a queue that was filled before its worker started, and the
processor time of all its processes is counted.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import results_page
from tests.benchmarks.measure import deliver, window
from tests.benchmarks.measure.catalogue import SCENARIOS
from tests.benchmarks.measure.figures import plain
from tests.benchmarks.measure.rig import BenchFailed, Rig, Scale, StubProcess
from tests.benchmarks.measure.sales import sale
from tests.benchmarks.measure.session import machine, measure
from tests.benchmarks.peer_setup import PEERS, Commands, Missing, Peer

SCRATCH = Path(__file__).parents[2] / ".trackdesk" / "bench"
OUR_JOBS, OUR_SHORT_JOBS, OUR_QUICK_JOBS = 20_000, 10_000, 3_000
SHORT_PAIRS = 2
PATH = "/tracking/conversion/v1"


@dataclass
class Pairs:
    """One peer's runs, each beside one of ours."""

    peer: Peer
    ours: list[window.Window] = field(default_factory=list)
    theirs: list[window.Window] = field(default_factory=list)
    skipped: str = ""
    remark: str = ""

    def document(self) -> dict[str, Any]:
        head: dict[str, Any] = {"name": self.peer.name, "about": self.peer.about, "jobs": self.peer.jobs}
        if not self.theirs:
            return {**head, "skipped": self.skipped}
        pairs = list(zip(self.ours, self.theirs, strict=True))
        return {
            **head,
            "remark": self.remark,
            "ours": _sides(self.ours),
            "theirs": _sides(self.theirs),
            "throughput_ratio": _spread([ours.per_second / theirs.per_second for ours, theirs in pairs]),
            "worker_cpu_ratio": _spread([ours.cpu_us("worker") / theirs.cpu_us("worker") for ours, theirs in pairs]),
            "all_cpu_ratio": _spread([_all_us(ours) / _all_us(theirs) for ours, theirs in pairs]),
        }


def _sides(runs: Sequence[window.Window]) -> dict[str, Any]:
    return {
        "per_second": _spread([run.per_second for run in runs]),
        "worker_cpu_us": _spread([run.cpu_us("worker") for run in runs]),
        "redis_cpu_us": _spread([run.cpu_us("redis") for run in runs]),
    }


def _all_us(run: window.Window) -> float:
    return run.cpu_us("worker") + run.cpu_us("redis")


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def measure_peer(rig: Rig, stub: StubProcess, commands: Commands, jobs: int) -> tuple[window.Window, str]:
    """Deliver `jobs` with a peer; return the steady part and a remark if the stub saw another number."""
    with rig.server() as server:
        environment = {
            **os.environ,
            **commands.environment,
            "BENCH_REDIS_URL": server.url,
            "BENCH_URL": stub.url + PATH,
            "BENCH_BODY": json.dumps(sale("")),
        }
        environment.pop("PYTHONPATH", None)
        subprocess.run([*commands.enqueue, str(jobs)], cwd=commands.directory, env=environment, check=True, timeout=300)
        start = stub.count()
        with _worker(rig, commands, environment) as process:
            groups = {"worker": [process.pid], "redis": [server.pid or 0]}
            measured = window.measure(stub, jobs, groups, start=start, within_s=90)
            seen = stub.wait_for(start + jobs, within_s=60) - start
    return measured, "" if seen == jobs else f"{seen} requests for {jobs} sales"


@contextmanager
def _worker(rig: Rig, commands: Commands, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with rig.log() as output:
        process = subprocess.Popen(
            commands.work,
            cwd=commands.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def compare(peers: Sequence[Peer], *, runs: int, scale: Scale) -> list[Pairs]:
    """Measure our worker and each peer in turn."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trackdesk-bench-", ignore_cleanup_errors=True) as directory:
        rig = Rig(Path(directory), scale, _notify)
        pairs = min(runs, SHORT_PAIRS) if scale.short else runs
        with rig.stub() as stub:
            return [_compare_one(rig, stub, peer, runs=pairs) for peer in peers]


def _compare_one(rig: Rig, stub: StubProcess, peer: Peer, *, runs: int) -> Pairs:
    pairs = Pairs(peer)
    _notify(f"{peer.name}: {peer.about}")
    try:
        commands = peer.prepare(SCRATCH)
    except Missing as reason:
        pairs.skipped = str(reason)
        _notify(f"  skipped: {reason}")
        return pairs
    scale = rig.scale
    our_jobs = scale.of(OUR_SHORT_JOBS if scale.short else OUR_JOBS, OUR_QUICK_JOBS)
    divisor = scale.of(2 if scale.short else 1, 4)
    for _ in range(runs):
        ours = deliver.deliver(rig, stub, jobs=our_jobs, processes=1)
        try:
            theirs, remark = measure_peer(rig, stub, commands, peer.jobs // divisor)
        except (BenchFailed, subprocess.SubprocessError) as error:
            pairs.skipped = f"it did not run to its end: {error}"
            _notify(f"  {pairs.skipped}")
            break
        pairs.ours.append(ours)
        pairs.theirs.append(theirs)
        pairs.remark = pairs.remark or remark
        for name, run in (("trackdesk", ours), (peer.name, theirs)):
            _notify(
                f"  {name}: {plain(run.per_second)}/s, worker {plain(run.cpu_us('worker'))} µs, "
                f"Redis {plain(run.cpu_us('redis'))} µs"
            )
    return pairs


def prepare() -> None:
    """Set every peer up, or say why it cannot be."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for peer in PEERS:
        try:
            peer.prepare(SCRATCH)
            _notify(f"{peer.name}: ready")
        except Missing as reason:
            _notify(f"{peer.name}: {reason}")


def _notify(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run, RESULTS.md stays as it is")
    parser.add_argument("--runs", type=int, help="pairs per peer and runs per scenario (5; quick: 1)")
    parser.add_argument("--only", action="append", choices=[peer.name for peer in PEERS], help="this peer; repeatable")
    parser.add_argument("--peers-only", action="store_true", help="without our own scenarios")
    parser.add_argument("--short", action="store_true", help="full sizes, fewer runs of what takes long: 12 minutes")
    parser.add_argument("--prepare", action="store_true", help="only set the peers up, so that a run does not have to")
    parser.add_argument("--soak", type=int, default=200_000, help="deliveries of the scenario soak")
    options = parser.parse_args()
    if options.prepare:
        prepare()
        return
    runs = options.runs or (1 if options.quick else 3 if options.short else 5)
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "runs": runs,
        "bench": None,
    }
    scale = Scale(options.quick, options.soak, options.short)
    if not options.peers_only:
        session = measure(list(SCENARIOS), runs=runs, scale=scale, notify=_notify, found=lambda _: None)
        document["bench"] = session.document()
    peers = [peer for peer in PEERS if not options.only or peer.name in options.only]
    document["peers"] = [pairs.document() for pairs in compare(peers, runs=runs, scale=scale)]
    SCRATCH.mkdir(parents=True, exist_ok=True)
    target = SCRATCH / "results.json"
    target.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    print(results_page.render(document))
    print(f"JSON: {target}")
    if not (options.quick or options.only or options.peers_only):
        results_page.update(document)
        print(f"written: {results_page.PAGE}")


if __name__ == "__main__":
    main()
