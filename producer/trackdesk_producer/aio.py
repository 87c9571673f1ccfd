"""The producer for asyncio."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import redis.asyncio

from trackdesk_producer._flow import EnqueueItem, Flow, ProducerFlow, Send
from trackdesk_producer._redis.connections import MAX_CONNECTIONS, connection_options, open_async_client
from trackdesk_producer.contract.runner import Replies, Request, arun_raw, asend
from trackdesk_producer.conversion.model import Conversion
from trackdesk_producer.errors import QueueUnavailable
from trackdesk_producer.failures import NO_REPLY, unavailable
from trackdesk_producer.receipts import Cancellation, Durability, JobStatus, Receipt

T = TypeVar("T")


class AsyncProducer:
    """Enqueue conversions from asyncio code. The same guarantees and arguments as `Producer`.

    Close it (``async with`` does). It may be used on several event loops; each has its own `max_connections`, and
    closes them itself.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        tenant: str | None = None,
        namespace: str = "trackdesk",
        durability: Durability | str = Durability.MEMORY,
        identity_by_type: bool | Callable[[str], bool] = False,
        connect_timeout_s: float = 0.25,
        timeout_s: float = 1.0,
        max_connections: int = MAX_CONNECTIONS,
        replicas: int = 1,
        dedupe_window_s: int = 30 * 86_400,
    ) -> None:
        self._flow = ProducerFlow(
            namespace=namespace,
            tenant=tenant,
            durability=durability,
            identity_by_type=identity_by_type,
            timeout_s=timeout_s,
            replicas=replicas,
            dedupe_window_s=dedupe_window_s,
        )
        options = connection_options(connect_timeout_s, timeout_s, max_connections)
        self._max_connections = max_connections

        def open_lines() -> _Lines:
            return _Lines(open_async_client(url, **options), asyncio.Semaphore(max_connections))

        self._open: Callable[[], _Lines] = open_lines
        self._open()  # connects to nothing yet: a wrong address shows here
        self._lines: dict[asyncio.AbstractEventLoop, _Lines] = {}
        self._lock = threading.Lock()

    async def enqueue(
        self,
        conversion: Conversion | Mapping[str, Any],
        *,
        tenant: str | None = None,
        not_before: datetime | None = None,
        durability: Durability | str | None = None,
    ) -> Receipt:
        """Store one conversion for delivery; see `Producer.enqueue`."""
        return await self._drive(self._flow.enqueue(EnqueueItem(conversion, tenant, not_before), durability))

    async def enqueue_many(
        self,
        conversions: Iterable[EnqueueItem | Conversion | Mapping[str, Any]],
        *,
        durability: Durability | str | None = None,
    ) -> list[Receipt]:
        """Store many conversions in few round trips; see `Producer.enqueue_many`."""
        return await self._drive(self._flow.enqueue_many(conversions, durability))

    async def cancel(
        self, external_id: str, *, tenant: str | None = None, conversion_type: str | None = None
    ) -> Cancellation:
        """Cancel a conversion that waits and cannot have reached Trackdesk; see `Producer.cancel`."""
        return await self._drive(self._flow.cancel(external_id, tenant, conversion_type))

    async def get(
        self, external_id: str, *, tenant: str | None = None, conversion_type: str | None = None
    ) -> JobStatus | None:
        """Return where a conversion is, or None if it is unknown; see `Producer.get`."""
        return await self._drive(self._flow.get(external_id, tenant, conversion_type))

    async def close(self) -> None:
        """Close the connections of this event loop; the producer may be used again after."""
        lines = self._lines.pop(asyncio.get_running_loop(), None)
        if lines is not None:
            await lines.client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _drive(self, flow: Flow[T]) -> T:
        sent: deque[Request] = deque()
        try:
            step = next(flow)
            while True:
                try:
                    if isinstance(step, Send):  # one loop does both, so that nothing is gained by sending early
                        sent.append(step.request)
                        answer = None
                    else:
                        answer = await self._within_deadline(step if isinstance(step, Request) else sent.popleft())
                except QueueUnavailable as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _within_deadline(self, request: Request) -> Replies:
        lines, began, waited_s = self._lines_here(), time.monotonic(), None
        try:
            async with asyncio.timeout(self._flow.timeout_s), lines.places:
                waited_s = time.monotonic() - began
                return await arun_raw(lambda sent: asend(lines.client, sent), request.calls, request.also)
        except NO_REPLY as error:  # TimeoutError is an OSError
            raise unavailable(
                error,
                timeout_s=self._flow.timeout_s,
                waited_s=time.monotonic() - began if waited_s is None else waited_s,
                max_connections=self._max_connections,
            ) from error

    def _lines_here(self) -> "_Lines":
        """Return the connections of the running event loop: no other can use them."""
        loop = asyncio.get_running_loop()
        lines = self._lines.get(loop)
        if lines is None:
            with self._lock:
                # The connections of a loop that was closed ended with it.
                self._lines = {known: kept for known, kept in self._lines.items() if not known.is_closed()}
                lines = self._lines[loop] = self._open()
        return lines


class _Lines(NamedTuple):
    """The connections of one event loop."""

    client: redis.asyncio.Redis
    places: asyncio.Semaphore
