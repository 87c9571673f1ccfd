"""The store of one deployment as an object: a client and the keys, held once.

A `ScriptCall` says what to send and how to read the reply. `JobStore` runs such calls for commands, console and
maintenance, `AsyncJobStore` for the delivery loop and the exporter. They differ in nothing but how they wait.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
import redis.asyncio

from trackdesk_producer.contract import runner
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import Command, Replies
from trackdesk_producer.contract.scripts import ScriptCall, text
from trackdesk_worker.store.jobs import Jobs
from trackdesk_worker.store.pipeline import run_pipeline

T = TypeVar("T")


class JobStore:
    """The store, for code that blocks on its replies. Thread-safe, as redis-py's client is."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.jobs = Jobs(keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.client.close()

    def run(self, call: ScriptCall[T]) -> T:
        """Run one script and return its result."""
        return runner.run(self.client, call)

    def transaction(self, commands: Sequence[Command], *, raise_on_error: bool = True) -> Replies:
        """Return the replies of commands at one moment; with `raise_on_error` false also those that are errors."""
        with self.client.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute(raise_on_error=raise_on_error)

    def time_ms(self) -> int:
        """Return the store's clock, by which every stored time is written."""
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def tenants(self) -> list[str]:
        """Return every tenant that ever had a job, sorted."""
        return sorted(text(name) for name in self.client.smembers(self.keys.tenants))


class AsyncJobStore:
    """The store, for code on an event loop."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.jobs = Jobs(keys)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def run_raw(self, calls: Sequence[ScriptCall[Any]]) -> Replies:
        """Run scripts in one round trip; return their raw replies, for `runner.result`."""
        return await run_pipeline(self.client, calls)

    async def transaction(self, commands: Sequence[Command], *, raise_on_error: bool = True) -> Replies:
        """Do what `JobStore.transaction` does."""
        async with self.client.pipeline(transaction=True) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=raise_on_error)
