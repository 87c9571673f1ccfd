"""The floor: what the work would cost if there were nothing but the HTTP client, or nothing but Redis."""

import asyncio
import time
from collections.abc import Mapping

import redis

from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.rig import Rig
from tests.benchmarks.measure.sales import TENANT, body_of, order
from tests.benchmarks.measure.usage import group_usage
from trackdesk_worker.trackdesk.client import TrackdeskClient
from trackdesk_worker.trackdesk.endpoint import Endpoint
from trackdesk_worker.trackdesk.exchange import Answer

CONCURRENCY = 256
PIPELINED = 100


def bare_client(url: str, requests: int) -> Mapping[str, float]:
    """Send the body `requests` times, nothing else; requests per second and this process' processor time each."""
    return asyncio.run(_bare_client(url, requests))


async def _bare_client(url: str, requests: int) -> Mapping[str, float]:
    client = TrackdeskClient(lambda _: Endpoint(url), connect_timeout_s=5, timeout_s=30, concurrency=CONCURRENCY)
    body, left = body_of(order(0)), 0

    async def send_some() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            result, _ = await client.send(TENANT, body)
            if not isinstance(result, Answer):
                raise RuntimeError(f"the stub did not answer: {result.detail}")

    async def send(count: int) -> None:
        nonlocal left
        left = count
        await asyncio.gather(*(send_some() for _ in range(CONCURRENCY)))

    try:
        await send(CONCURRENCY)  # opens the connections
        began, cpu = time.perf_counter(), time.process_time()
        await send(requests)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    finally:
        await client.aclose()
    return {"requests": requests / seconds, "client CPU": cpu_s / requests * 1e6}


def bare_redis(client: redis.Redis, server_group: int, writes: int) -> Mapping[str, float]:
    """Write records of a sale's size, pipelined as the worker does; processor time each of client and server."""
    payload = body_of(order(0)) + b" " * 120  # the header of a record
    before, cpu = group_usage(server_group), time.process_time()
    for first in range(0, writes, PIPELINED):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(first, first + PIPELINED):
                pipeline.set(f"floor:{number}", payload)
            pipeline.execute()
    cpu_s = time.process_time() - cpu
    server_s = group_usage(server_group).cpu_s - before.cpu_s
    return {"client CPU of a SET": cpu_s / writes * 1e6, "server CPU of a SET": server_s / writes * 1e6}


def round_trip_us(client: redis.Redis, payload: bytes, times: int) -> float:
    """Return the wall time of one SET of the payload, one by one, in µs."""
    began = time.perf_counter()
    for number in range(times):
        client.set(f"trip:{number}", payload)
    return (time.perf_counter() - began) / times * 1e6


def measure(rig: Rig, runs: int) -> Runs:
    """Measure the floor."""
    requests, writes = rig.scale.of(10_000, 1_000), rig.scale.of(50_000, 5_000)
    with rig.alone() as deployment, rig.stub() as stub:

        def once(_: int) -> Mapping[str, float]:
            return {
                **bare_client(stub.url, requests),
                **bare_redis(deployment.client, deployment.server.pid or 0, writes),
                "Redis round trip": round_trip_us(deployment.client, body_of(order(0)), rig.scale.of(5_000, 500)),
            }

        return collect(runs, once)
