"""Delivery under load: one worker process, and two, against a stub that answers after 100 ms."""

import contextlib
from collections.abc import Mapping

from tests.benchmarks.measure import floor, window
from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.rig import BenchFailed, Rig, StubProcess
from tests.benchmarks.measure.sales import order, sale


def deliver(rig: Rig, stub: StubProcess, *, jobs: int, processes: int) -> window.Window:
    """Queue `jobs`, deliver them with so many worker processes, audit; return the steady part."""
    with rig.alone() as deployment:
        with deployment.producer() as producer:
            receipts = producer.enqueue_many(sale(order(number)) for number in range(jobs))
        if any(receipt.error for receipt in receipts):
            raise BenchFailed("a sale was refused")
        start = stub.count()
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(deployment.worker(stub)) for _ in range(processes)]
            measured = window.measure(
                stub,
                jobs,
                {"worker": [worker.pid for worker in workers], "redis": [deployment.server.pid or 0]},
                start=start,
            )
            deployment.wait_for_delivered(jobs, within_s=60)
        deployment.check()
    return measured


def measure(rig: Rig, runs: int) -> Runs:
    """Measure one process, and the bare client on the same stub in the same minute."""
    jobs, requests = rig.scale.of(20_000, 3_000), rig.scale.of(10_000, 2_000)
    with rig.stub() as stub:

        def once(_: int) -> Mapping[str, float]:
            bare = floor.bare_client(stub.url, requests)
            ours = deliver(rig, stub, jobs=jobs, processes=1)
            worker = ours.cpu_us("worker")
            return {
                "deliveries": ours.per_second,
                "worker CPU": worker,
                "Redis CPU": ours.cpu_us("redis"),
                "bare client CPU": bare["client CPU"],
                "worker CPU to bare client": worker / bare["client CPU"],
            }

        return collect(runs, once)


def measure_two(rig: Rig, runs: int) -> Runs:
    """Measure two processes against one, in turn."""
    jobs = rig.scale.of(20_000, 4_000)
    with rig.stub() as stub:

        def once(_: int) -> Mapping[str, float]:
            one = deliver(rig, stub, jobs=jobs, processes=1)
            two = deliver(rig, stub, jobs=jobs * 2, processes=2)
            return {
                "deliveries of one": one.per_second,
                "deliveries of two": two.per_second,
                "two to one": two.per_second / one.per_second,
                "worker CPU of two": two.cpu_us("worker"),
                "Redis CPU of two": two.cpu_us("redis"),
            }

        return collect(runs, once)
