"""The producer for asyncio."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .connections import open_async_client
from .contract.conversion import Conversion
from .contract.runner import Replies, arun_raw, asend
from .core import EnqueueItem, ProducerCore, Request, Send, Talk
from .errors import QueueUnavailable
from .producer import connection_options
from .receipts import Cancellation, Durability, JobStatus, Receipt

T = TypeVar("T")


class AsyncProducer:
    """Enqueue conversions from asyncio code. The same guarantees and arguments as `Producer`.

    Use one per event loop, and close it (``async with`` does).
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
        replicas: int = 1,
        dedupe_window_s: int = 30 * 86_400,
    ) -> None:
        self._core = ProducerCore(
            namespace=namespace,
            tenant=tenant,
            durability=Durability(durability),
            identity_by_type=identity_by_type,
            timeout_s=timeout_s,
            replicas=replicas,
            dedupe_window_s=dedupe_window_s,
        )
        self._client = open_async_client(url, **connection_options(connect_timeout_s, timeout_s))

    async def enqueue(
        self,
        conversion: Conversion | Mapping[str, Any],
        *,
        tenant: str | None = None,
        not_before: datetime | None = None,
        durability: Durability | str | None = None,
    ) -> Receipt:
        """Store one conversion for delivery; see `Producer.enqueue`."""
        level = None if durability is None else Durability(durability)
        return await self._drive(self._core.enqueue(EnqueueItem(conversion, tenant, not_before), level))

    async def enqueue_many(
        self,
        conversions: Iterable[EnqueueItem | Conversion | Mapping[str, Any]],
        *,
        durability: Durability | str | None = None,
    ) -> list[Receipt]:
        """Store many conversions in few round trips; see `Producer.enqueue_many`."""
        level = None if durability is None else Durability(durability)
        return await self._drive(self._core.enqueue_many(conversions, level))

    async def cancel(
        self, external_id: str, *, tenant: str | None = None, conversion_type: str | None = None
    ) -> Cancellation:
        """Cancel a conversion that waits and cannot have reached Trackdesk; see `Producer.cancel`."""
        return await self._drive(self._core.cancel(external_id, tenant, conversion_type))

    async def get(
        self, external_id: str, *, tenant: str | None = None, conversion_type: str | None = None
    ) -> JobStatus | None:
        """Return where a conversion is, or None if it is unknown; see `Producer.get`."""
        return await self._drive(self._core.get(external_id, tenant, conversion_type))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _drive(self, talk: Talk[T]) -> T:
        sent: deque[Request] = deque()
        try:
            step = next(talk)
            while True:
                try:
                    if isinstance(step, Send):  # one loop does both, so that nothing is gained by sending early
                        sent.append(step.request)
                        answer = None
                    else:
                        answer = await self._within_deadline(step if isinstance(step, Request) else sent.popleft())
                except QueueUnavailable as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _within_deadline(self, request: Request) -> Replies:
        try:
            async with asyncio.timeout(self._core.timeout_s):
                return await arun_raw(lambda sent: asend(self._client, sent), request.operations, request.also)
        except TimeoutError as error:
            raise QueueUnavailable(f"the store gave no answer within {self._core.timeout_s:g} s") from error
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise QueueUnavailable(f"the store gave no answer: {error}") from error
