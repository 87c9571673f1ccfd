"""Which trace an attempt belongs to, and what its span says, without a collector."""

import logging

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from trackdesk_producer.contract.doubt import Past
from trackdesk_producer.contract.record import JobClass
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_worker.config.settings import tracing_protocol, tracing_wanted
from trackdesk_worker.domain.claim import ClaimedJob
from trackdesk_worker.telemetry.tracing import NEST_FOR_MS, Tracing, TracingUnavailable, open_tracing

TRACE_ID, SPAN_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
SAMPLED = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
UNSAMPLED = SAMPLED[:-1] + "0"
ACCEPTED_MS = 1_767_225_600_000


class Recorder:
    """Tracing whose spans stay in the process."""

    def __init__(self, sampler: Sampler) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracing = Tracing(provider, namespace="trackdesk")

    def attempt(
        self, trace: str, *, age_ms: int = 0, job_class: JobClass = JobClass.LIVE, how: str = "kept"
    ) -> ReadableSpan | None:
        """Make one attempt; return its span, if one was recorded."""
        job = ClaimedJob("acme/1", "7", 1, 0, "-", Past(), ACCEPTED_MS, ACCEPTED_MS, job_class, False, 1, trace, b"{}")
        span = self.tracing.attempt(job, now_ms=ACCEPTED_MS + age_ms)
        span.settled(how)
        finished = self.exporter.get_finished_spans()
        self.exporter.clear()
        return finished[0] if finished else None


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(ParentBased(ALWAYS_ON))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    monkeypatch.delenv("OTEL_TRACES_EXPORTER", raising=False)
    return monkeypatch


@pytest.mark.parametrize("age_ms", [0, NEST_FOR_MS - 1])
@pytest.mark.parametrize("job_class", [JobClass.LIVE, JobClass.RETRY])
def test_a_young_sales_attempt_is_a_child_of_its_enqueue(recorder: Recorder, age_ms: int, job_class: JobClass) -> None:
    span = recorder.attempt(SAMPLED, age_ms=age_ms, job_class=job_class)
    assert span is not None
    assert span.context.trace_id == TRACE_ID
    assert span.parent is not None
    assert (span.parent.span_id, span.parent.is_remote, span.links) == (SPAN_ID, True, ())


@pytest.mark.parametrize(
    ("age_ms", "job_class"),
    [(NEST_FOR_MS, JobClass.LIVE), (30 * NEST_FOR_MS, JobClass.RETRY), (0, JobClass.REDRIVE)],
)
def test_an_old_sale_and_a_redriven_one_start_a_trace_that_links_back(
    recorder: Recorder, age_ms: int, job_class: JobClass
) -> None:
    span = recorder.attempt(SAMPLED, age_ms=age_ms, job_class=job_class)
    assert span is not None
    assert (span.parent, span.context.trace_id == TRACE_ID) == (None, False)
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(TRACE_ID, SPAN_ID)]


@pytest.mark.parametrize("job_class", [JobClass.LIVE, JobClass.REDRIVE])
def test_the_shops_sampling_decides_also_behind_a_link(job_class: JobClass) -> None:
    sparing, lavish = Recorder(ParentBased(ALWAYS_OFF)), Recorder(ParentBased(ALWAYS_ON))
    assert sparing.attempt(SAMPLED, job_class=job_class) is not None
    assert lavish.attempt(UNSAMPLED, job_class=job_class) is None


@pytest.mark.parametrize("trace", [NO_TRACE, "nonsense", SAMPLED.upper()])
def test_without_a_sound_trace_the_sampler_decides_and_the_span_is_a_root(trace: str) -> None:
    assert Recorder(ParentBased(ALWAYS_OFF)).attempt(trace) is None
    span = Recorder(ParentBased(ALWAYS_ON)).attempt(trace)
    assert span is not None
    assert (span.parent, span.links) == (None, ())


def test_a_share_of_the_sales_without_a_trace_is_recorded_each_under_a_trace_of_its_own() -> None:
    recorder = Recorder(ParentBased(TraceIdRatioBased(0.25)))
    spans = [span for span in (recorder.attempt(NO_TRACE) for _ in range(2000)) if span is not None]
    assert 400 <= len(spans) <= 600
    assert len({span.context.trace_id for span in spans}) == len(spans)


@pytest.mark.parametrize("how", ["kept", "lease_lost", "abandoned"])
def test_a_span_says_how_its_settlement_went(recorder: Recorder, how: str) -> None:
    span = recorder.attempt(SAMPLED, how=how)
    assert span is not None
    assert span.attributes is not None
    assert span.attributes["trackdesk.settled"] == how


def test_a_bug_of_ours_is_an_error_by_name_and_not_by_its_words(recorder: Recorder) -> None:
    job = ClaimedJob("acme/1", "7", 1, 0, "-", Past(), 0, 0, JobClass.LIVE, False, 1, SAMPLED, b"{}")
    recorder.tracing.attempt(job, now_ms=0).crashed(KeyError("a customer's data"))
    (span,) = recorder.exporter.get_finished_spans()
    assert (span.status.status_code, span.status.description, span.events) == (StatusCode.ERROR, "KeyError", ())


def test_tracing_is_asked_for_by_naming_a_collector_and_can_be_turned_off(environment: pytest.MonkeyPatch) -> None:
    assert not tracing_wanted()
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert tracing_wanted()
    environment.setenv("OTEL_SDK_DISABLED", "true")
    assert not tracing_wanted()
    environment.delenv("OTEL_SDK_DISABLED")
    environment.setenv("OTEL_TRACES_EXPORTER", "none")
    assert not tracing_wanted()


def test_another_protocol_is_refused_with_the_line_that_fixes_it(environment: pytest.MonkeyPatch) -> None:
    assert tracing_protocol() == "http/protobuf"
    environment.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(TracingUnavailable, match="OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"):
        open_tracing(namespace="trackdesk", service="trackdesk-worker", protocol=tracing_protocol())


def test_the_service_has_a_name_that_the_environment_may_change(environment: pytest.MonkeyPatch) -> None:
    def name() -> object:
        tracing = open_tracing(namespace="trackdesk", service="trackdesk-worker", protocol="http/protobuf")
        tracing.stop()
        return tracing._provider.resource.attributes["service.name"]

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    environment.delenv("OTEL_SERVICE_NAME", raising=False)
    assert name() == "trackdesk-worker"
    environment.setenv("OTEL_SERVICE_NAME", "deliveries-eu")
    assert name() == "deliveries-eu"
