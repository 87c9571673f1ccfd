"""``python -m tests.benchmarks.measure.stub``: answers any request as Trackdesk would, after a delay.

It has to cost far less than what it measures: it looks for the end of a request and nothing else, and one timer
serves all answers. It prints its port as the first line of stdout and ends when its stdin does.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import deque

BODY = b'{"cid":"6f1c1f2e-4b7a-4a51-9a37-1f5c62b0a7de"}'
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
COUNT_PATH = "/_stub/count"
ARRIVALS_PATH = "/_stub/arrivals"
TIMER_SLACK_S = 0.0005


class Stub:
    """What all connections share."""

    def __init__(self, *, delay_s: float, record: bool) -> None:
        self.count = 0
        self._delay_s = delay_s
        self._record = record
        self._arrivals: list[tuple[str, float]] = []
        self._loop = asyncio.get_running_loop()
        self._due: deque[tuple[float, asyncio.Transport]] = deque()

    def take(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Count one request and see to its answer."""
        if head.startswith(b"GET /_stub/"):
            transport.write(self._notify(head))
            return
        self.count += 1
        if self._record:
            # The clock of the whole machine, so that the process that enqueued can subtract its own reading.
            self._arrivals.append((json.loads(body)["externalId"], time.monotonic()))
        if not self._delay_s:
            transport.write(ANSWER)
            return
        due = self._loop.time() + self._delay_s
        if not self._due:
            self._loop.call_at(due, self._answer_due)
        self._due.append((due, transport))

    def _answer_due(self) -> None:
        now = self._loop.time() + TIMER_SLACK_S
        while self._due and self._due[0][0] <= now:
            transport = self._due.popleft()[1]
            if not transport.is_closing():
                transport.write(ANSWER)
        if self._due:
            self._loop.call_at(self._due[0][0], self._answer_due)

    def _notify(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1].decode("ascii", "replace")
        if path == ARRIVALS_PATH:
            arrivals, self._arrivals = self._arrivals, []
            body = json.dumps(arrivals).encode()
        else:
            body = str(self.count).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class _Connection(asyncio.Protocol):
    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            whole = end + 4 + _content_length(received[:end])
            if len(received) < whole:
                break
            self._stub.take(self._transport, received[:end], received[end + 4 : whole])
            received = received[whole:]
        self._received = received


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(lower[at + 17 :].split(b"\r\n", 1)[0])


async def serve(*, delay_s: float, record: bool) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    stub, ended = Stub(delay_s=delay_s, record=record), asyncio.Event()
    server = await loop.create_server(lambda: _Connection(stub), "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    # The process that started us holds the other end: even its crash ends us.
    stdin = sys.stdin.fileno()
    loop.add_reader(stdin, lambda: None if os.read(stdin, 64) else ended.set())
    await ended.wait()
    server.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="A stub of Trackdesk for measuring.")
    parser.add_argument("--delay-ms", type=float, default=100)
    parser.add_argument("--record", action="store_true", help="Keep when each externalId arrived.")
    options = parser.parse_args()
    asyncio.run(serve(delay_s=options.delay_ms / 1000, record=options.record))


if __name__ == "__main__":
    main()
