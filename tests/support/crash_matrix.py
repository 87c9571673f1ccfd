"""The crash matrix on the command line: ``python -m tests.support.crash_matrix --seed 1 --runs 100``.

Exit 0 if every run passed. A failed run keeps its directory (logs of every process, the store's files); repeat it
with ``--seed <its seed> --runs 1``.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.support.matrix_plan import plan
from tests.support.matrix_run import Verdict, carry_out
from tests.support.simulator import SimulatorProcess, simulator_process


def run_matrix(seeds: Iterable[int], directory: Path, *, beside: int, notify: bool = False) -> list[Verdict]:
    """Carry out the plans of `seeds`, `beside` of them at a time; return their verdicts."""
    free: SimpleQueue[SimulatorProcess] = SimpleQueue()

    def one(seed: int) -> Verdict:
        trackdesk, own = free.get(), directory / f"run-{seed}"
        try:
            verdict = carry_out(plan(seed), trackdesk, own)
        except Exception as error:  # of the harness, such as a server that does not start: the other runs go on
            verdict = Verdict(plan(seed), [f"broke off: {type(error).__name__}: {error}"])
        finally:
            free.put(trackdesk)
        if verdict.ok:
            shutil.rmtree(own, ignore_errors=True)
        if notify:
            mark = "ok    " if verdict.ok else "FAILED"
            print(
                f"{mark} {verdict.seconds:5.1f} s {'died' if verdict.crashed else 'lived'}  {verdict.plan}", flush=True
            )
            for problem in verdict.problems:
                print(f"       {problem}", flush=True)
        return verdict

    with ExitStack() as stack:
        for number in range(beside):
            free.put(stack.enter_context(simulator_process(seed=number + 1)))
        pool = ThreadPoolExecutor(beside)
        stack.callback(pool.shutdown, cancel_futures=True)  # Ctrl-C ends what runs, and begins nothing more
        return list(pool.map(one, seeds))


def summary(verdicts: list[Verdict], seconds: float) -> dict[str, Any]:
    """Return the figures of many runs."""
    resumed = sorted(v.resumed_s for v in verdicts if v.resumed_s is not None)
    return {
        "runs": len(verdicts),
        "failed": [v.plan.seed for v in verdicts if not v.ok],
        "jobs": sum(v.jobs for v in verdicts),
        "kills": sum(v.kills for v in verdicts),
        "runs that came to their crash point": sum(v.crashed for v in verdicts),
        "crash points": len({v.plan.point.name for v in verdicts if v.crashed}),
        "points never reached": sorted(
            {v.plan.point.name for v in verdicts} - {v.plan.point.name for v in verdicts if v.crashed}
        ),
        "store faults": dict(Counter(v.plan.store_fault.value for v in verdicts)),
        "trackdesk": dict(Counter(v.plan.trackdesk for v in verdicts)),
        "servers": dict(Counter(v.plan.kind for v in verdicts)),
        "resumed after (s)": {
            "measured": len(resumed),
            "median": round(resumed[len(resumed) // 2], 2) if resumed else None,
            "longest": round(resumed[-1], 2) if resumed else None,
        },
        "power cuts": {
            "forgotten within the stated loss": sum(v.forgotten for v in verdicts),
            "forgotten deliveries that became dead letters": sum(v.unverified for v in verdicts),
        },
        "seconds": round(seconds),
    }


def main() -> int:
    """Run from the command line."""
    arguments = argparse.ArgumentParser(description="Kill processes at named points and audit the store.")
    arguments.add_argument("--seed", type=int, default=1, help="seed of the first run; the others count up")
    arguments.add_argument("--runs", type=int, default=100)
    arguments.add_argument("--beside", type=int, default=(os.cpu_count() or 2) + 2, help="runs at a time; most wait")
    arguments.add_argument("--summary", type=Path, help="where to write the figures as JSON")
    given = arguments.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="crash-matrix-"))
    started = time.monotonic()
    verdicts = run_matrix(range(given.seed, given.seed + given.runs), directory, beside=given.beside, notify=True)
    figures = json.dumps(summary(verdicts, time.monotonic() - started), indent=2)
    print(figures)
    if given.summary:
        given.summary.write_text(figures + "\n", "utf-8")
    if all(verdict.ok for verdict in verdicts):
        shutil.rmtree(directory)
        return 0
    print(f"what the failed runs left is in {directory}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
