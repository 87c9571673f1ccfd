"""Large numbers: the import of a file, a scrape of a full store, a worker's memory over many deliveries."""

import json
import time
import urllib.request
from collections.abc import Mapping

from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.rig import STILL_REWRITE, BenchFailed, Rig
from tests.benchmarks.measure.sales import order, sale, tenants
from tests.benchmarks.measure.usage import group_usage, peak_resident
from trackdesk_worker.local.embedded import free_port

MB = 1_000_000
SCRAPE_TENANTS = 10
SOAK_WARM_SHARE = 0.2


def measure_import(rig: Rig, runs: int) -> Runs:
    """Import a file of JSON lines."""
    lines = rig.scale.of(1_000_000, 5_000)
    file = rig.directory / "sales.jsonl"
    with file.open("w", encoding="utf-8") as output:
        for number in range(lines):
            output.write(json.dumps(sale(order(number)), separators=(",", ":")) + "\n")

    def once(_: int) -> Mapping[str, float]:
        peak = 0
        with rig.alone() as deployment:
            began = time.perf_counter()
            with deployment.process("import", str(file), "--json") as process:
                while process.poll() is None:
                    peak = max(peak, peak_resident(process.pid))
                    time.sleep(0.02)
                seconds = time.perf_counter() - began
            if process.returncode != 0:
                raise BenchFailed(f"the import ended with exit code {process.returncode}")
            deployment.check(large=True)
        return {"lines": lines / seconds, "a million lines": seconds / lines * 1e6, "peak memory": peak / MB}

    try:
        return collect(runs, once)
    finally:
        file.unlink()


def measure_scrape(rig: Rig, runs: int) -> Runs:
    """Scrape the exporter over a store of which a tenth is dead."""
    jobs, times = rig.scale.of(1_000_000, 5_000), rig.scale.of(40, 5)
    with rig.alone(STILL_REWRITE) as deployment:
        store = deployment.store(tenants=tenants(SCRAPE_TENANTS))
        rig.notify(f"filling a server with {jobs:,} jobs")
        store.fill(jobs)
        store.finish(jobs // 10, bury=True)
        port = free_port()
        with deployment.process("console", "--port", str(port)):
            _scrape(port, patience_s=30)

            def once(_: int) -> Mapping[str, float]:
                taken = sorted(_scrape(port, patience_s=0) for _number in range(times))
                return {"scrape": taken[len(taken) // 2] * 1000, "slowest scrape": taken[-1] * 1000}

            measured = collect(runs, once)
        deployment.check(large=True)
    return measured


def _scrape(port: int, *, patience_s: float) -> float:
    """Return the seconds one scrape takes; try again while the exporter starts."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + patience_s
    while True:
        began = time.perf_counter()
        try:
            with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                page: bytes = answer.read()
        except OSError as error:
            if time.monotonic() > deadline:
                raise BenchFailed("the exporter does not answer") from error
            time.sleep(0.1)
            continue
        if b"trackdesk_collector_success 1" not in page:
            raise BenchFailed("the exporter could not read the store")
        return time.perf_counter() - began


def measure_soak(rig: Rig, runs: int) -> Runs:
    """Deliver many and look at the worker's memory after the warm-up and at the end. One run, however many asked."""
    del runs
    jobs = rig.scale.of(rig.scale.soak_jobs, 2_000)
    with rig.alone() as deployment, rig.stub(delay_ms=20) as stub:
        deployment.store().fill(jobs)
        with deployment.worker(stub) as worker:
            stub.wait_for(int(jobs * SOAK_WARM_SHARE), within_s=3600)
            warm = group_usage(worker.pid).resident
            stub.wait_for(jobs // 2, within_s=3600)
            half = group_usage(worker.pid).resident
            deployment.wait_for_delivered(jobs, within_s=3600)
            end = group_usage(worker.pid).resident
        deployment.check()
    delivered = jobs - int(jobs * SOAK_WARM_SHARE)
    return {
        "memory, warm": [warm / MB],
        "memory, half way": [half / MB],
        "memory, at the end": [end / MB],
        "growth after warm-up": [(end - warm) / delivered],
        "end to warm": [end / warm],
    }
