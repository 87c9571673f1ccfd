"""A server of a few lines that answers with raw bytes: for everything a well-behaved HTTP library refuses to do."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Handler = Callable[["RawRequest", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class RawRequest:
    """A request as it came over the wire."""

    head: bytes
    body: bytes

    @property
    def first_line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def headers(self) -> dict[bytes, bytes]:
        lines = self.head.split(b"\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines) if name}


@dataclass
class RawServer:
    port: int
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0
    given_up: int = 0
    """Connections whose client closed its side."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def answer(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status.encode(), len(body), headers, body)


def always(raw: bytes, *, close: bool = False) -> Handler:
    """Answer every request with these bytes, and then keep the connection, or close our side of it."""

    async def handler(_: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        if close:
            writer.write_eof()

    return handler


@contextlib.asynccontextmanager
async def raw_server(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Serve until the block ends; then every connection, and every handler still at work, is cut off."""
    record = RawServer(port=0)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        record.connections += 1
        try:
            while not writer.is_closing():
                request = await _read_request(reader)
                record.requests.append(request)
                await handler(request, writer)
        except asyncio.IncompleteReadError:
            record.given_up += 1
        except (OSError, asyncio.CancelledError):
            pass  # the client broke off, or the test is over
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    record.port = server.sockets[0].getsockname()[1]
    try:
        yield record
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader) -> RawRequest:
    head = await reader.readuntil(b"\r\n\r\n")
    request = RawRequest(head, b"")
    length = int(request.headers.get(b"content-length", b"0"))
    return RawRequest(head, await reader.readexactly(length))
