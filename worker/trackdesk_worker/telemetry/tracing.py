"""Spans of attempts, for deployments that use OpenTelemetry.

Tracing is on where the environment names an OTLP endpoint (``OTEL_EXPORTER_OTLP_ENDPOINT``) and the packages of the
extra ``otel`` are there. Otherwise nothing of OpenTelemetry is imported, and an attempt pays one comparison.

One span per attempt, from the claim's hand-over to the settlement. Which trace it belongs to:

* The sale's own, as a child of the enqueue's span, while the sale is younger than `NEST_FOR_MS` and was not redriven.
* A new one, linked to the enqueue's span, after that: a trace that goes on hours later is shown by no tool.
* A new one without a link, when the sale was enqueued without a trace.

Sampling is the shop's where it decided: an attempt is recorded if and only if the enqueue was, also behind a link.
Without a trace the standard ``OTEL_TRACES_SAMPLER`` decides.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from trackdesk_producer.contract.record import JobClass, external_id_of
from trackdesk_producer.contract.trace import NO_TRACE, sound_trace
from trackdesk_worker.domain.claim import ClaimedJob, Settlement
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind
from trackdesk_worker.telemetry.guard import guarded

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Link, Span, SpanContext, Tracer

NEST_FOR_MS = 3_600_000
SHUTDOWN_S = 3.0
"""Longest wait for the last spans when a process ends; what a dead collector did not take by then is dropped."""
MISSING = "the packages are missing: pip install 'trackdesk-worker[otel]'"
OTHER_PROTOCOL = "only OTLP over HTTP is spoken: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


class AttemptSpan:
    """The span of one attempt. Its methods may be called whether it is recorded or not."""

    __slots__ = ("_span", "drop", "ids")

    def __init__(self, span: "Span | None", ids: Mapping[str, str], drop: Callable[[], None] = lambda: None) -> None:
        self._span = span
        self.drop = drop
        """Called for what cannot be recorded; no method raises."""
        self.ids = ids
        """What the log line of the attempt names."""

    @guarded
    def answered(self, outcome: Outcome, settlement: Settlement, duration_s: float) -> None:
        """Add what came back and what was decided."""
        if self._span is None:
            return
        attributes: dict[str, Any] = {
            "trackdesk.outcome": outcome.kind.value,
            "trackdesk.reason": outcome.reason.value,
            "trackdesk.decision": settlement.verb.value,
            "trackdesk.may_have_landed": settlement.ambiguous,
            "trackdesk.request_ms": round(duration_s * 1000, 1),
        }
        if outcome.status is not None:
            attributes["http.response.status_code"] = outcome.status
        if outcome.code is not None:
            attributes["trackdesk.code"] = outcome.code
        if outcome.kind is not OutcomeKind.DELIVERED:
            self._fail(outcome.reason.value)
        self._span.add_event("answered")
        self._span.set_attributes(attributes)

    @guarded
    def crashed(self, error: BaseException) -> None:
        """End it as a failure of ours; the lease takes the job back."""
        if self._span is not None:
            self._fail(type(error).__name__)
            self._span.end()

    @guarded
    def settled(self, how: str) -> None:
        """End it: ``kept``, ``lease_lost`` (another holder decides), or ``abandoned`` (the store was away too long)."""
        if self._span is not None:
            self._span.set_attribute("trackdesk.settled", how)
            self._span.end()

    def _fail(self, what: str) -> None:
        from opentelemetry.trace import StatusCode

        if self._span is not None:
            self._span.set_attribute("error.type", what)
            self._span.set_status(StatusCode.ERROR, what)


_UNRECORDED = AttemptSpan(None, {})


class Tracing:
    """Starts the spans of one process, and hands them to the exporter's thread."""

    def __init__(self, provider: "TracerProvider", *, namespace: str, drop: Callable[[], None] = lambda: None) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._drop = drop
        provider.sampler = _follow_links(provider.sampler)
        self._trace = trace
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("trackdesk_worker")
        self._namespace = namespace
        self._name = f"deliver {namespace}"
        self._nowhere = Context()
        """Not what may be current in the thread: an attempt has no other parent than the enqueue."""

    def publish(self) -> None:
        """Let the producer's spans, in this process, go the same way."""
        self._trace.set_tracer_provider(self._provider)

    def attempt(self, job: ClaimedJob, *, now_ms: int) -> AttemptSpan:
        """Start the span of one attempt; one that records nothing, should that fail."""
        try:
            return self._attempt(job, now_ms)
        except Exception:
            self._drop()
            return _UNRECORDED

    def _attempt(self, job: ClaimedJob, now_ms: int) -> AttemptSpan:
        origin, unrecorded = None, _UNRECORDED
        if sound_trace(job.trace) != NO_TRACE:
            origin, unrecorded = self._origin(job.trace), AttemptSpan(None, {"trace_id": job.trace[3:35]})
            if not origin.trace_flags.sampled:
                return unrecorded
        span = self._start(job, origin, now_ms)
        if not span.is_recording():
            return unrecorded
        context = span.get_span_context()
        ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
        return AttemptSpan(span, ids, self._drop)

    def stop(self) -> None:
        """Send what is left, for `SHUTDOWN_S` at most."""
        # In a thread of its own: the SDK waits up to 30 s for its exporter, the exporter for a silent collector.
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-stop", daemon=True)
        ending.start()
        ending.join(SHUTDOWN_S)

    def _start(self, job: ClaimedJob, origin: "SpanContext | None", now_ms: int) -> "Span":
        age_ms = now_ms - job.accepted_ms
        attributes: dict[str, str | int] = {
            "messaging.system": "trackdesk",
            "messaging.operation.name": "deliver",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._namespace,
            "messaging.message.id": external_id_of(job.id),
            "trackdesk.tenant": job.tenant,
            "trackdesk.job_class": job.job_class.value,
            "trackdesk.attempt": job.attempts_total,
            "trackdesk.age_ms": age_ms,
        }
        context = self._nowhere
        links: list[Link] = []
        if origin is not None:
            if age_ms < NEST_FOR_MS and job.job_class is not JobClass.REDRIVE:
                context = self._trace.set_span_in_context(self._trace.NonRecordingSpan(origin))
            else:
                links = [self._trace.Link(origin)]
        return self._tracer.start_span(
            self._name,
            context=context,
            kind=self._trace.SpanKind.CONSUMER,
            attributes=attributes,
            links=links,
        )

    def _origin(self, trace: str) -> "SpanContext":
        return self._trace.SpanContext(
            int(trace[3:35], 16),
            int(trace[36:52], 16),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(int(trace[53:], 16)),
        )


class TracingUnavailable(Exception):
    """Traces are asked for and cannot be had; the message says what to do. No reason not to deliver."""


def open_tracing(*, namespace: str, service: str, protocol: str, drop: Callable[[], None] = lambda: None) -> Tracing:
    """Return tracing as the standard OTEL_* variables say; `drop` counts spans that cannot be recorded.

    Raises:
        TracingUnavailable: if a package is missing, or another protocol is asked for.
    """
    if protocol != "http/protobuf":
        raise TracingUnavailable(OTHER_PROTOCOL)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingUnavailable(MISSING) from error
    resource = Resource.create({"service.version": version("trackdesk-worker")})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):  # OTEL_SERVICE_NAME goes first
        resource = resource.merge(Resource({"service.name": service}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, namespace=namespace, drop=drop)


def _follow_links(sampler: "Sampler") -> "Sampler":
    """Return a sampler that records what is linked to a recorded enqueue, and leaves the rest to `sampler`."""
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

    class FollowLinks(Sampler):
        def should_sample(
            self,
            parent_context: "Context | None",
            trace_id: int,
            name: str,
            kind: Any = None,
            attributes: Mapping[str, Any] | None = None,
            links: "Sequence[Link] | None" = None,
            trace_state: Any = None,
        ) -> SamplingResult:
            if links:  # `attempt` starts no span at all for an enqueue that was not recorded
                return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
            return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

        def get_description(self) -> str:
            return f"FollowLinks({sampler.get_description()})"

    return FollowLinks()
