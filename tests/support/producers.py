"""Both producers behind one blocking face, so that every test of one is a test of the other."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from trackdesk_producer import AsyncProducer, Cancellation, JobStatus, Producer, Receipt

KINDS = ("blocking", "asyncio")


class AnyProducer:
    """A `Producer`, or an `AsyncProducer` with an event loop of its own."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner() if kind == "asyncio" else None
        self._inner: Any = (AsyncProducer if self._runner else Producer)(url, **options)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        answer = getattr(self._inner, method)(*arguments, **options)
        return self._runner.run(answer) if self._runner else answer

    def enqueue(self, *arguments: Any, **options: Any) -> Receipt:
        return self._call("enqueue", *arguments, **options)

    def enqueue_many(self, *arguments: Any, **options: Any) -> list[Receipt]:
        return self._call("enqueue_many", *arguments, **options)

    def cancel(self, *arguments: Any, **options: Any) -> Cancellation:
        return self._call("cancel", *arguments, **options)

    def get(self, *arguments: Any, **options: Any) -> JobStatus | None:
        return self._call("get", *arguments, **options)

    def close(self) -> None:
        self._call("close")
        if self._runner:
            self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sale(external_id: str | None, **changes: Any) -> dict[str, Any]:
    """Return a POST body in the guide's form; a change to None leaves the field out."""
    body: dict[str, Any] = {
        "conversionTypeCode": "sale",
        "cid": "7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11",
        "amount": {"value": "100.50"},
        "currency": {"code": "EUR"},
        "externalId": external_id,
    } | changes
    return {name: value for name, value in body.items() if value is not None}


@contextmanager
def silent_listener() -> Iterator[str]:
    """Give the URL of a port where connecting works and nobody ever answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@contextmanager
def unreachable_listener() -> Iterator[str]:
    """Give the URL of a port where connecting itself hangs: its queue is full, as behind a dropping firewall."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            for client in waiting:
                client.close()


def closed_port() -> str:
    """Return the URL of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}/0"


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Fail if the block takes longer."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < limit_s, f"took {took:.2f} s, allowed are {limit_s:g} s"


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Give the port of something that answers each connection with the same bytes."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
