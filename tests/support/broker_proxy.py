"""A proxy between a worker and Redis that tampers with the wake-ups Celery gets, and with nothing else.

It knows one command, BRPOP: whatever answers it may be dropped, doubled, delayed, reordered or replaced.
"""

import asyncio
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

NOTHING = b"*-1\r\n"
"""How Redis answers a BRPOP whose time is over."""
_ANSWER = re.compile(rb"\*2\r\n\$(\d+)\r\n")
GARBAGE = (b"", b"{", b"null", b"[]", b'{"body":1}', b"\xff" * 50)


@dataclass
class Tampering:
    """What is done to wake-ups: drop, double, late (in any order) or garble; and how many it met."""

    how: str
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    met: int = 0
    held: list[tuple[float, bytes]] = field(default_factory=list)

    def answer(self, real: bytes) -> bytes:
        """Return what Celery gets for a BRPOP that Redis answered with `real`."""
        now = time.monotonic()
        if real != NOTHING:
            self.met += 1
            match self.how:
                case "double":
                    self.held.append((now, real))
                    return real
                case "late":
                    self.held += [(now + self.rng.uniform(0, 3), real)] * 2
                case "garble":
                    return self._garbled(real)
        return self.due(now) or NOTHING

    def due(self, now: float) -> bytes | None:
        """Return one of the held wake-ups whose time has come, any of them."""
        ready = [item for item in self.held if item[0] <= now]
        if not ready:
            return None
        chosen = self.rng.choice(ready)
        self.held.remove(chosen)
        return chosen[1]

    def _garbled(self, real: bytes) -> bytes:
        head = _ANSWER.match(real)
        assert head is not None
        queue = real[: head.end() + int(head[1]) + 2]
        junk = self.rng.choice(GARBAGE)
        return queue + b"$%d\r\n%s\r\n" % (len(junk), junk)


@contextmanager
def broker_proxy(port: int, tampering: Tampering) -> Iterator[str]:
    """Give the URL of a proxy to the Redis on `port`."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(lambda r, w: _serve(r, w, port, tampering), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, tampering: Tampering) -> None:
    redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", port)
    waiting = asyncio.Event()

    async def asking() -> None:
        while data := await reader.read(65_536):
            if b"\r\nBRPOP\r\n" in data[:32]:
                waiting.set()
            redis_writer.write(data)
            await redis_writer.drain()

    async def answering() -> None:
        buffer = b""
        while data := await redis_reader.read(65_536):
            buffer += data
            if waiting.is_set():
                if not _whole(buffer):
                    continue
                waiting.clear()
                buffer = tampering.answer(buffer)
            writer.write(buffer)
            buffer = b""
            await writer.drain()

    directions = [asyncio.create_task(asking()), asyncio.create_task(answering())]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        writer.transport.abort()
        redis_writer.transport.abort()


def _whole(reply: bytes) -> bool:
    if not reply.startswith(b"*2"):
        return reply.endswith(b"\r\n")
    position = 0
    for _ in range(2):
        head = re.compile(rb"(?:\*2\r\n)?\$(\d+)\r\n").match(reply, position)
        if head is None:
            return False
        position = head.end() + int(head[1]) + 2
    return len(reply) >= position
