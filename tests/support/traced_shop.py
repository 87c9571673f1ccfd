"""A shop with OpenTelemetry of its own, in a process of its own: sells inside its spans, prints their ids.

``python -m tests.support.traced_shop REDIS_URL NAMESPACE`` reads lines of JSON: one sale, or a list of sales, each line
sold within a span "checkout" of its own. The collector is named by OTEL_* variables, as in any shop.
"""

import json
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from trackdesk_producer import Producer


def main() -> None:
    """Sell what stdin says."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    with Producer(sys.argv[1], tenant="acme", namespace=sys.argv[2], timeout_s=10) as producer:
        for line in sys.stdin:
            sales = json.loads(line)
            with trace.get_tracer("shop").start_as_current_span("checkout") as span:
                if isinstance(sales, list):
                    assert all(receipt.ok for receipt in producer.enqueue_many(sales))
                else:
                    assert producer.enqueue(sales).ok
            print(f"{span.get_span_context().trace_id:032x}", flush=True)
    provider.shutdown()


if __name__ == "__main__":
    main()
