"""The span of one round trip that enqueues, for shops that use OpenTelemetry.

Nothing here imports OpenTelemetry: a process in which nobody has done so has no trace to continue, and pays one look
into a dictionary for each call. A shop that has set a tracer provider up gets the spans, without asking; one that only
passes the context of its own callers on has that context carried.

Nothing here raises: a sale is stored also when its span cannot be made, marked or ended.
"""

import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from trackdesk_producer.contract.trace import NO_TRACE, sound_trace

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

SYSTEM = "trackdesk"
"""``messaging.system`` of all our spans, the worker's too."""


class EnqueueSpan:
    """The span around one round trip. Without tracing it is empty, and every method does nothing.

    Attributes follow OpenTelemetry's conventions for messaging (development status, as of 1.37). They hold the
    sale's externalId and the tenant, and nothing else of the sale.
    """

    __slots__ = ("_span", "trace")

    def __init__(self, span: "Span | None", trace: str) -> None:
        self._span = span
        self.trace = trace
        """What the jobs of this round trip carry."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self._span is None:
            return
        if kind is not None:
            with suppress(Exception):
                from opentelemetry.trace import StatusCode

                # The name alone: a message may repeat what an address or a server said.
                self._span.set_attribute("error.type", kind.__name__)
                self._span.set_status(StatusCode.ERROR, kind.__name__)
        with suppress(Exception):
            self._span.end()

    def record(self, verdicts: list[str]) -> None:
        """Add how many of the batch were accepted, duplicates or conflicts."""
        if self._span is None:
            return
        with suppress(Exception):
            if not self._span.is_recording():
                return
            counts: dict[str, int] = {}
            for verdict in verdicts:
                status = verdict.partition(":")[0]
                counts[status] = counts.get(status, 0) + 1
            for status, count in counts.items():
                self._span.set_attribute(f"trackdesk.receipts.{status}", count)


_EMPTY = EnqueueSpan(None, NO_TRACE)


def enqueue_span(*, namespace: str, tenant: str, external_id: str, count: int) -> EnqueueSpan:
    """Return the span of a round trip that stores `count` sales; tenant and externalId are the first one's."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return _EMPTY
    try:
        return _start(api, namespace, tenant, external_id, count)
    except Exception:
        return _EMPTY


def _start(api: Any, namespace: str, tenant: str, external_id: str, count: int) -> EnqueueSpan:
    if isinstance(api.get_tracer_provider(), api.ProxyTracerProvider):  # nobody has set one up
        current = api.get_current_span()
        return _EMPTY if current is api.INVALID_SPAN else EnqueueSpan(None, traceparent(current))
    attributes: dict[str, str | int] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": namespace,
        "trackdesk.tenant": tenant,
    }
    if count == 1:
        attributes["messaging.message.id"] = external_id
    else:
        attributes["messaging.batch.message_count"] = count
    span = _tracer(api).start_span(f"enqueue {namespace}", kind=api.SpanKind.PRODUCER, attributes=attributes)
    return EnqueueSpan(span, traceparent(span))


def traceparent(span: "Span") -> str:
    """Return a span's context as W3C ``traceparent``, or `NO_TRACE` where there is none."""
    context = span.get_span_context()
    return sound_trace(f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}")


@cache
def _tracer(api: Any) -> "Tracer":
    """One tracer for the process; it follows a provider that is set later."""
    tracer: Tracer = api.get_tracer("trackdesk_producer")
    return tracer
