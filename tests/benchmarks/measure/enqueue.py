"""Enqueueing: bulk, one by one against a bare round trip, and durable against not."""

import threading
import time
from collections.abc import Callable, Mapping

from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.floor import round_trip_us
from tests.benchmarks.measure.rig import BenchFailed, Deployment, Rig
from tests.benchmarks.measure.sales import body_of, order, sale
from tests.benchmarks.measure.usage import group_usage
from trackdesk_producer import Durability

PRODUCERS = 16


def measure(rig: Rig, runs: int) -> Runs:
    """Measure bulk and single enqueueing in memory durability."""
    many, single = rig.scale.of(50_000, 5_000), rig.scale.of(3_000, 300)
    payload = body_of(order(0))

    def once(_: int) -> Mapping[str, float]:
        with rig.alone() as deployment, deployment.producer() as producer:
            server = deployment.server.pid or 0
            items = [sale(order(number)) for number in range(many)]
            used, cpu, began = group_usage(server), time.process_time(), time.perf_counter()
            receipts = producer.enqueue_many(items)
            seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
            server_s = group_usage(server).cpu_s - used.cpu_s
            if any(receipt.error for receipt in receipts):
                raise BenchFailed("a sale was refused")
            one_us, bare_us = 0.0, 0.0
            # In turn, in short stretches: what slows the machine meets both.
            for part in range(10):
                bare_us += round_trip_us(deployment.client, payload, single // 10) / 10
                began = time.perf_counter()
                for number in range(single // 10):
                    producer.enqueue(sale(order(many + part * single + number)))
                one_us += (time.perf_counter() - began) / (single // 10) * 1e6 / 10
            deployment.check()
        return {
            "enqueue_many": many / seconds,
            "producer CPU": cpu_s / many * 1e6,
            "Redis CPU": server_s / many * 1e6,
            "one enqueue": one_us,
            "Redis round trip": bare_us,
            "one enqueue to round trip": one_us / bare_us,
        }

    return collect(runs, once)


def measure_durable(rig: Rig, runs: int) -> Runs:
    """Measure 16 producers at once with durability fsync against memory, on servers that sync in either way."""
    jobs = rig.scale.of(32_000, 3_200)

    def rate(durability: Durability, sync: str) -> float:
        with rig.alone({"appendfsync": sync}) as deployment:
            seconds = _together(deployment, durability, jobs // PRODUCERS)
            deployment.check()
        return jobs / seconds

    def once(_: int) -> Mapping[str, float]:
        memory = rate(Durability.MEMORY, "everysec")
        fsync, fsync_always = rate(Durability.FSYNC, "everysec"), rate(Durability.FSYNC, "always")
        return {
            "16 producers, memory": memory,
            "16 producers, fsync (everysec)": fsync,
            "16 producers, fsync (always)": fsync_always,
            "fsync to memory (everysec)": fsync / memory,
            "fsync to memory (always)": fsync_always / memory,
        }

    return collect(runs, once)


def _together(deployment: Deployment, durability: Durability, each: int) -> float:
    """Let 16 producers enqueue `each` sales at once; return the seconds until the last has its receipts."""
    start = threading.Barrier(PRODUCERS + 1)
    failed: list[str] = []

    def produce(number: int) -> Callable[[], None]:
        items = [sale(order(number * each + sequence)) for sequence in range(each)]

        def run() -> None:
            with deployment.producer(durability) as producer:
                start.wait()
                receipts = producer.enqueue_many(items)
            failed.extend(str(receipt.error) for receipt in receipts if receipt.error)

        return run

    threads = [threading.Thread(target=produce(number)) for number in range(PRODUCERS)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failed:
        raise BenchFailed(f"{len(failed)} sales were not stored durably; the first: {failed[0]}")
    return seconds
