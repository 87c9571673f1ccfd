"""Running script calls: one round trip, and a second one only after Redis lost its scripts.

The logic is a generator that yields what to send and is given the replies; `run` and `arun` are the two shells
around it, one for redis-py's blocking client and one for its asyncio client.
"""

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import redis
import redis.asyncio
from redis.exceptions import NoScriptError

from trackdesk_producer.contract.scripts import ScriptCall

T = TypeVar("T")
Command: TypeAlias = tuple[Any, ...]
Replies: TypeAlias = list[Any]
"""One reply per command; an error reply is the exception in its place."""
Send: TypeAlias = Callable[[Sequence[Command]], Replies]
AsyncSend: TypeAlias = Callable[[Sequence[Command]], Awaitable[Replies]]


def exchange(
    calls: Sequence[ScriptCall[Any]], also: Sequence[Command]
) -> Generator[Sequence[Command], Replies, Replies]:
    """Yield the commands of one round trip, take their replies; again for scripts Redis did not know.

    Redis forgets scripts when it restarts or fails over. A call it did not know did nothing, so that repeating it
    is safe; the plain commands (`also`) go behind it again.
    """
    commands = [("EVALSHA", o.script.sha, 1, o.prefix, *o.arguments) for o in calls]
    replies = yield [*commands, *also]
    unknown = [i for i in range(len(commands)) if isinstance(replies[i], NoScriptError)]
    if unknown:
        sources = {calls[i].script.sha: calls[i].script.source for i in unknown}
        loads: list[Command] = [("SCRIPT", "LOAD", source) for source in sources.values()]
        again = yield [*loads, *(commands[i] for i in unknown), *also]
        repeated = again[len(loads) :]
        for position, reply in zip(unknown, repeated, strict=False):
            replies[position] = reply
        replies[len(commands) :] = repeated[len(unknown) :]
    return replies


@dataclass(slots=True)
class Flight:
    """A round trip that was sent and not yet received."""

    steps: Generator[Sequence[Command], Replies, Replies]
    calls: Sequence[ScriptCall[Any]]
    awaited: int
    """Replies to read."""


def begin_raw(
    write: Callable[[Sequence[Command]], None], calls: Sequence[ScriptCall[Any]], also: Sequence[Command] = ()
) -> Flight:
    """Send what `run_raw` would, and do not wait for the replies; `finish_raw` does."""
    steps = exchange(calls, also)
    commands = next(steps)
    write(commands)
    return Flight(steps, calls, len(commands))


def finish_raw(flight: Flight, read: Callable[[int], Replies], send: Send) -> Replies:
    """Return the raw replies of a flight; `send` repeats what Redis did not know."""
    try:
        commands = flight.steps.send(read(flight.awaited))
        while True:
            commands = flight.steps.send(send(commands))
    except StopIteration as end:
        replies: Replies = end.value
        return replies


def run_raw(send: Send, calls: Sequence[ScriptCall[Any]], also: Sequence[Command] = ()) -> Replies:
    """Run script calls and, behind them on the same connection, plain commands; return the raw replies."""
    steps = exchange(calls, also)
    commands = next(steps)
    while True:
        try:
            commands = steps.send(send(commands))
        except StopIteration as end:
            replies: Replies = end.value
            return replies


async def arun_raw(send: AsyncSend, calls: Sequence[ScriptCall[Any]], also: Sequence[Command] = ()) -> Replies:
    """Do what `run_raw` does, on asyncio."""
    steps = exchange(calls, also)
    commands = next(steps)
    while True:
        try:
            commands = steps.send(await send(commands))
        except StopIteration as end:
            replies: Replies = end.value
            return replies


def result(call: ScriptCall[T], reply: Any) -> T:
    """Return the result of a call, or raise the error that came instead."""
    if isinstance(reply, Exception):
        raise reply
    return call.read(reply)


def run(client: redis.Redis, call: ScriptCall[T]) -> T:
    """Run one call and return its result."""

    def send(commands: Sequence[Command]) -> Replies:
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute(raise_on_error=False)

    return result(call, run_raw(send, [call])[0])


async def asend(client: redis.asyncio.Redis, commands: Sequence[Command]) -> Replies:
    """Send commands in one round trip on asyncio."""
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)


@dataclass(frozen=True, slots=True)
class Request:
    """What one round trip sends: scripts, and plain commands behind them on the same connection."""

    calls: Sequence[ScriptCall[Any]] = ()
    also: Sequence[Command] = ()
