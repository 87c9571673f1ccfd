"""A TCP proxy whose connections go half open (both ends keep them, nothing arrives any more), or stay with a server
while new ones lead to another.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class FaultProxy:
    """Forwards to a port of this machine, from a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Event] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._thread.start()
        listen = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listen, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def half_open(self) -> int:
        """Swallow what the present connections say, both ways, for good; new ones work. Return how many."""
        return asyncio.run_coroutine_threadsafe(self._swallow(), self._loop).result(10)

    def lead_to(self, target_port: int) -> None:
        """Forward new connections to another port; the present ones stay where they are."""
        self._target_port = target_port

    def close(self) -> None:
        """Cut every connection and end."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _swallow(self) -> int:
        struck = len(self._open)
        for dead in self._open:
            dead.set()
        self._open.clear()
        return struck

    async def _end(self) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dead = asyncio.Event()
        self._open.add(dead)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
            async with asyncio.TaskGroup() as both:
                both.create_task(_forward(reader, upstream, dead))
                both.create_task(_forward(answers, writer, dead))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # an end went away, or the proxy ends
        finally:
            self._open.discard(dead)
            self._tasks.discard(task)
            writer.transport.abort()
            if upstream is not None:
                upstream.transport.abort()


class _Ended(Exception):
    """One direction is over, so that the connection is."""


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dead: asyncio.Event) -> None:
    while data := await reader.read(65_536):
        if not dead.is_set():
            writer.write(data)
            await writer.drain()
    if dead.is_set():
        await asyncio.Event().wait()  # not even the end of the connection comes through
    raise _Ended


@contextlib.contextmanager
def fault_proxy(target_port: int) -> Iterator[FaultProxy]:
    """A proxy that ends with the block."""
    proxy = FaultProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
