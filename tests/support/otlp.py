"""A collector of traces in the test's process: OTLP over HTTP, protobuf, as a real one takes it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """One span as it arrived."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    """Trace and span ids."""
    attributes: dict[str, Any]
    error: str | None
    start_ns: int
    end_ns: int

    @property
    def sale(self) -> str | None:
        """The externalId, where the span is about one sale."""
        found: str | None = self.attributes.get("messaging.message.id")
        return found


@dataclass
class Collector:
    """What arrived so far."""

    endpoint: str
    spans: list[Seen] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """The requests' bodies, for a look at everything that left the process."""
    requests: int = 0

    def named(self, name: str) -> list[Seen]:
        """Return the spans of one name, the earliest first."""
        return sorted((span for span in list(self.spans) if span.name == name), key=lambda span: span.start_ns)


@contextmanager
def collector(*, answer_after_s: float = 0.0) -> Iterator[Collector]:
    """Take traces; `answer_after_s` makes it one that hangs."""
    leaving = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.requests += 1
            leaving.wait(answer_after_s)
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            seen.raw.append(body)
            seen.spans += _read(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    seen = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        leaving.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _read(request: ExportTraceServiceRequest) -> Iterator[Seen]:
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    service=service,
                    name=span.name,
                    kind=span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    attributes=_attributes(span.attributes),
                    error=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
