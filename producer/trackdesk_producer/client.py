"""The producer for blocking code: threads, prefork servers, scripts."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from trackdesk_producer._flow import EnqueueItem, Flow, ProducerFlow, Send, Step
from trackdesk_producer._redis.connections import MAX_CONNECTIONS, connection_options, open_pool
from trackdesk_producer._redis.lines import Line, Lines
from trackdesk_producer.contract.runner import Replies, Request
from trackdesk_producer.conversion.model import Conversion
from trackdesk_producer.errors import QueueUnavailable
from trackdesk_producer.receipts import Cancellation, Durability, JobStatus, Receipt

T = TypeVar("T")


class Producer:
    """Enqueue conversions from blocking code. Thread-safe; survives a fork; connects on first use.

    Guarantees:
        * A receipt means stored, with the durability asked for.
        * Every call ends within `timeout_s` (``enqueue_many``: per round trip of 500), answered or raised.
        * Every call is safe to repeat: the externalId is the identity of a sale.

    Args:
        url: the store, as ``redis://``, ``rediss://``, ``unix://`` or ``sentinel://``.
        tenant: default tenant of calls that name none.
        namespace: prefix of all keys; the workers must use the same.
        durability: default level of `Durability`.
        identity_by_type: whether the conversion type belongs to a sale's identity, for shops that reuse
            order ids across types; True, False, or a function of the tenant.
        connect_timeout_s: limit for opening a connection.
        timeout_s: limit for the whole call.
        max_connections: how many calls talk to the store at a time; others wait their turn, within `timeout_s`.
        replicas: replicas that must confirm under ``Durability.REPLICATED``.
        dedupe_window_s: how long a cancelled sale is remembered.

    Raises:
        OptionInvalid: an argument cannot be used; ``option`` names it.
        ConversionInvalid: the tenant or the namespace breaks its rules.
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
        pool = open_pool(url, **connection_options(connect_timeout_s, timeout_s, max_connections))
        self._lines = Lines(pool, timeout_s=timeout_s, max_connections=max_connections)

    def enqueue(
        self,
        conversion: Conversion | Mapping[str, Any],
        *,
        tenant: str | None = None,
        not_before: datetime | None = None,
        durability: Durability | str | None = None,
    ) -> Receipt:
        """Store one conversion for delivery, not before a given time if one is given.

        Args:
            conversion: a `Conversion`, or the guide's POST body as a mapping.

        Raises:
            ConversionInvalid: it breaks a rule; ``problems`` names each.
            QueueFull: the store takes no new conversions; nothing was stored.
            QueueUnavailable: the store did not confirm, and the message says why; repeat with the error's
                ``external_id``.
            OptionInvalid: there is no such durability.
            DurabilityNotMet: stored, but not confirmed as durably as asked; repeating is safe.
        """
        return self._drive(self._flow.enqueue(EnqueueItem(conversion, tenant, not_before), durability))

    def enqueue_many(
        self,
        conversions: Iterable[EnqueueItem | Conversion | Mapping[str, Any]],
        *,
        durability: Durability | str | None = None,
    ) -> list[Receipt]:
        """Store many conversions in few round trips; one receipt per item, in order.

        Never raises for single items: a refused one has ``ReceiptStatus.REFUSED`` and its ``error``. After a
        round trip without an answer the rest is refused at once.
        """
        return self._drive(self._flow.enqueue_many(conversions, durability))

    def cancel(
        self, external_id: str, *, tenant: str | None = None, conversion_type: str | None = None
    ) -> Cancellation:
        """Cancel what waits and cannot have reached Trackdesk; raises `QueueUnavailable` like `enqueue`."""
        return self._drive(self._flow.cancel(external_id, tenant, conversion_type))

    def get(
        self, external_id: str, *, tenant: str | None = None, conversion_type: str | None = None
    ) -> JobStatus | None:
        """Return where a conversion is, or None if it is unknown; raises `QueueUnavailable` like `enqueue`."""
        return self._drive(self._flow.get(external_id, tenant, conversion_type))

    def close(self) -> None:
        """Close the connections; the producer may be used again after."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _drive(self, flow: Flow[T]) -> T:
        line = Line(self._lines)
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._take(step, line)
                except QueueUnavailable as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            line.close()

    def _take(self, step: Step, line: Line) -> Replies | None:
        if isinstance(step, Request):
            return self._lines.ask(step)
        if isinstance(step, Send):
            line.send(step.request)
            return None
        return line.receive()
