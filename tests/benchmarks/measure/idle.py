"""A worker at rest: how soon it sends what comes in, and what it costs while nothing does."""

import random
import time
from collections.abc import Mapping

from tests.benchmarks.measure.figures import Runs, collect, percentile
from tests.benchmarks.measure.rig import BenchFailed, Rig
from tests.benchmarks.measure.sales import order, sale
from tests.benchmarks.measure.usage import group_usage

PAUSE_S = (0.02, 0.1)
"""Between two sales; the stub answers after 5 ms, so the worker is at rest again."""


def measure(rig: Rig, runs: int) -> Runs:
    """Measure latency from the call of enqueue to the request's arrival, then the worker's share of a core."""
    sales, rest_s = rig.scale.of(400, 20), rig.scale.of(10, 2)
    rng = random.Random(7)
    with rig.alone() as deployment, rig.stub(delay_ms=5, record=True) as stub:

        def once(run: int) -> Mapping[str, float]:
            first = run * (sales + 1)
            with deployment.worker(stub) as worker, deployment.producer() as producer:
                seen = stub.count()
                producer.enqueue(sale(order(first)))
                stub.wait_for(seen + 1, within_s=30)  # it has started and opened its connections
                time.sleep(1.0)
                stub.arrivals()
                called = {}
                for number in range(first + 1, first + 1 + sales):
                    time.sleep(rng.uniform(*PAUSE_S))
                    called[order(number)] = time.monotonic()
                    producer.enqueue(sale(order(number)))
                stub.wait_for(seen + 1 + sales, within_s=30)
                arrived = dict(stub.arrivals())
                if arrived.keys() != called.keys():
                    raise BenchFailed("the stub did not get the sales that were enqueued, once each")
                latency_ms = [(arrived[name] - called[name]) * 1000 for name in called]
                time.sleep(1.0)
                groups = {"worker": worker.pid, "redis": deployment.server.pid or 0}
                before = {name: group_usage(group).cpu_s for name, group in groups.items()}
                time.sleep(rest_s)
                used = {name: group_usage(group).cpu_s - before[name] for name, group in groups.items()}
            deployment.check()
            return {
                "enqueue to request, p50": percentile(latency_ms, 0.5),
                "enqueue to request, p99": percentile(latency_ms, 0.99),
                "idle worker": used["worker"] / rest_s * 100,
                "idle Redis": used["redis"] / rest_s * 100,
            }

        return collect(runs, once)
