"""Peer: taskiq on a Redis stream (acknowledged), httpx over aiohttp, retries by its own middleware.

python taskiq_httpx.py enqueue N        taskiq worker taskiq_httpx:broker --workers 1 --max-async-tasks 256
"""

import asyncio
import json
import os
import sys
from typing import Any

import httpx
from httpx_aiohttp import AiohttpTransport
from taskiq import SmartRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

URL = os.environ["BENCH_URL"]
broker = RedisStreamBroker(os.environ["BENCH_REDIS_URL"]).with_middlewares(
    SmartRetryMiddleware(default_retry_count=20, default_delay=2, use_jitter=True, use_delay_exponent=True)
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_client(state: TaskiqState) -> None:
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    state.client = httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=10)


@broker.task("deliver", retry_on_error=True)
async def deliver(body: dict[str, Any]) -> None:
    answer = await broker.state.client.post(URL, json=body)
    answer.raise_for_status()
    answer.json()["cid"]


async def enqueue(count: int) -> None:
    await broker.startup()
    body = json.loads(os.environ["BENCH_BODY"])
    for number in range(count):
        body["externalId"] = f"order-{number:010d}"
        await deliver.kiq(body)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[2])))
