"""Checks that the store can be reached, accepts writes and keeps them."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis
import redis.asyncio

from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import Command, asend
from trackdesk_worker.store.job_store import AsyncJobStore, JobStore
from trackdesk_worker.telemetry.health import HealthStatus


def readiness_commands(keys: Keys) -> list[Command]:
    """Return the commands of the check."""
    # A write that changes nothing and that a full Redis accepts too, because deliveries continue there.
    return [("ZREM", keys.workers, ""), ("INFO", "everything")]


def judge_readiness(replies: Sequence[Any]) -> HealthStatus:
    """Read the replies to `readiness_commands`."""
    write, info = replies
    if isinstance(info, Exception):
        return HealthStatus(False, f"the store refuses INFO: {info}")
    problems = [f"the store takes no writes: {write}"] if isinstance(write, Exception) else []
    problems += unsafe(info)
    return HealthStatus(not problems, "; ".join(problems) or "ready")


def unsafe(info: Mapping[str, Any]) -> list[str]:
    """Return why a store with this INFO may lose jobs it has accepted; empty if it is safe."""
    problems = []
    if (policy := info.get("maxmemory_policy")) != "noeviction":
        problems.append(f"maxmemory-policy is {policy}, must be noeviction")
    if not info.get("aof_enabled"):
        problems.append("appendonly is off")
    elif info.get("aof_last_write_status", "ok") != "ok":
        problems.append("the last write to the append-only file failed")
    return problems


def store_ready(store: JobStore) -> HealthStatus:
    """Check the store, within the client's timeouts; an error means not ready."""
    try:
        with store.client.pipeline(transaction=False) as pipeline:
            for command in readiness_commands(store.keys):
                pipeline.execute_command(*command)
            return judge_readiness(pipeline.execute(raise_on_error=False))
    except redis.RedisError as error:
        return _away(error)


async def astore_ready(store: AsyncJobStore) -> HealthStatus:
    """Do what `store_ready` does, on asyncio."""
    try:
        return judge_readiness(await asend(store.client, readiness_commands(store.keys)))
    except redis.RedisError as error:
        return _away(error)


def _away(error: redis.RedisError) -> HealthStatus:
    return HealthStatus(False, f"the store cannot be reached: {type(error).__name__}")
