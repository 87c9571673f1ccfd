"""Traces end to end: a shop's span, the enqueue, every attempt; as a collector receives them over OTLP."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.otlp import Collector, Seen, collector
from tests.support.simulator import SimulatorProcess, sale
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, Deployment, deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.telemetry.tracing import SHUTDOWN_S

pytestmark = [pytest.mark.system, pytest.mark.parametrize("server", ["valkey"], indirect=True)]

QUICK = {
    "TRACKDESK_TIMEOUT_S": "2",
    "TRACKDESK_BACKOFF_BASE_S": "0.1",
    "TRACKDESK_BACKOFF_CAP_S": "0.3",
    "TRACKDESK_BREAKER_FAILURES": "50",
}


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    made = Cli(server.url, keys, monkeypatch, capsys)
    made.env(TENANT="acme")
    return made


def exporting(to: Collector | str, **more: str) -> dict[str, str]:
    endpoint = to if isinstance(to, str) else to.endpoint
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}


def shop(run: Deployment, traces: Collector, *lines: object, **variables: str) -> list[str]:
    """Sell in a shop with tracing; return the trace of each line."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.traced_shop", run.server.url, run.keys.namespace],
        input="".join(json.dumps(line) + "\n" for line in lines),
        cwd=ROOT,
        env={**os.environ, **exporting(traces, OTEL_SERVICE_NAME="shop", **variables)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def attempts_logged(run: Deployment) -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in run.log_text().splitlines() if '"delivery.attempt"' in line)
    return [line for line in lines if line["event"] == "delivery.attempt"]


def deliveries(traces: Collector, run: Deployment, external_id: str) -> list[Seen]:
    return [span for span in traces.named(f"deliver {run.keys.namespace}") if span.sale == external_id]


def test_a_sale_is_followed_from_the_shops_span_through_every_attempt_to_its_end(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess, cli: Cli
) -> None:
    with collector() as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        trackdesk.configure({"outage": "503"})
        secret = {"cid": "click-of-a-person", "customerId": "person-77", "customParams": {"advS1": "private-1"}}
        (trace_id,) = shop(run, traces, sale("order-1", **secret))
        shown = cli("show", "order-1", "--json").json
        run.start_worker({**QUICK, **exporting(traces), "TRACKDESK_API_KEY": "hush-hush"})
        wait_until(lambda: len(deliveries(traces, run, "order-1")) >= 1, "a first, failed attempt was exported")
        trackdesk.configure({"outage": "off"})
        run.wait_until_finished()
        wait_until(
            lambda: any(s.error is None for s in deliveries(traces, run, "order-1")), "the last attempt was exported"
        )

        (checkout,) = traces.named("checkout")
        (enqueue,) = traces.named(f"enqueue {keys.namespace}")
        *failed, good = deliveries(traces, run, "order-1")
        assert {span.trace_id for span in (checkout, enqueue, *failed, good)} == {trace_id}
        assert shown["trace_id"] == trace_id
        assert (enqueue.parent_id, enqueue.service, enqueue.kind) == (checkout.span_id, "shop", "PRODUCER")
        assert [span.parent_id for span in (*failed, good)] == [enqueue.span_id] * (len(failed) + 1)
        assert {(span.service, span.kind) for span in (*failed, good)} == {("trackdesk-worker", "CONSUMER")}
        assert [span.attributes["trackdesk.attempt"] for span in (*failed, good)] == list(range(1, len(failed) + 2))
        assert {(s.error, s.attributes["http.response.status_code"]) for s in failed} == {("server_error", 503)}
        said = {name.removeprefix("trackdesk."): value for name, value in good.attributes.items()}
        assert (good.error, said["outcome"], said["reason"]) == (None, "delivered", "paired")
        assert (said["decision"], said["settled"], said["job_class"]) == ("deliver", "kept", "retry")
        assert enqueue.end_ns <= failed[0].start_ns
        assert all(one.end_ns <= two.start_ns for one, two in zip(failed, [*failed[1:], good], strict=True))

        logged = [(line["trace_id"], line["span_id"]) for line in attempts_logged(run)]
        assert logged == [(span.trace_id, span.span_id) for span in (*failed, good)]
        left = b"".join(traces.raw)
        assert not [
            word for word in ("click-of", "person-77", "private-1", "hush-hush", "100.50") if word.encode() in left
        ]
        assert b"order-1" in left


def test_a_batch_is_one_span_and_each_of_its_sales_is_delivered_under_it(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    ids = ["order-1", "order-2", "order-3"]
    with collector() as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        run.start_worker({**QUICK, **exporting(traces)})
        (trace_id,) = shop(run, traces, [sale(external_id) for external_id in ids])
        wait_until(lambda: len(traces.named(f"deliver {keys.namespace}")) == 3, "three deliveries were exported")
        (enqueue,) = traces.named(f"enqueue {keys.namespace}")
        found = traces.named(f"deliver {keys.namespace}")
        assert enqueue.attributes["messaging.batch.message_count"] == 3
        assert enqueue.attributes["trackdesk.receipts.accepted"] == 3
        assert {(span.trace_id, span.parent_id) for span in found} == {(trace_id, enqueue.span_id)}
        assert sorted(span.sale or "" for span in found) == ids


def test_a_redrive_is_a_trace_of_its_own_that_links_back(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess, cli: Cli
) -> None:
    with collector() as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        run.start_worker({**QUICK, **exporting(traces)})
        (trace_id,) = shop(run, traces, sale("order-1", conversionTypeCode="later"))
        wait_until(lambda: run.book().jobs["dead"] == 1, "it is a dead letter")
        trackdesk.configure({"types": {"later": {}}})
        assert cli("redrive", "order-1", "--reason", "type was added", "--yes").code == 0
        run.wait_until_finished()
        wait_until(lambda: len(deliveries(traces, run, "order-1")) == 2, "both attempts were exported")
        (enqueue,) = traces.named(f"enqueue {keys.namespace}")
        first, again = deliveries(traces, run, "order-1")
        assert (first.trace_id, first.parent_id, first.links) == (trace_id, enqueue.span_id, ())
        assert (first.error, first.attributes["trackdesk.decision"]) == ("type_not_found", "bury")
        assert again.trace_id != trace_id
        assert (again.parent_id, again.links) == ("", ((trace_id, enqueue.span_id),))
        assert again.attributes["trackdesk.job_class"] == "redrive"


def test_what_the_shop_did_not_sample_is_not_recorded_and_the_log_still_names_its_trace(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    with collector() as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        run.start_worker({**QUICK, **exporting(traces)})
        (silent,) = shop(run, traces, sale("order-1"), OTEL_TRACES_SAMPLER="always_off")
        run.producer.enqueue(sale("order-2"))
        run.wait_until_finished()
        wait_until(lambda: bool(deliveries(traces, run, "order-2")), "the other sale's span was exported")
        (root,) = deliveries(traces, run, "order-2")
        assert (root.parent_id, root.links) == ("", ()), "a sale without a trace gets one at its first attempt"
        assert not deliveries(traces, run, "order-1")
        by_sale = {line["external_id"]: line for line in attempts_logged(run)}
        assert (by_sale["order-1"]["trace_id"], "span_id" in by_sale["order-1"]) == (silent, False)


def test_commands_send_their_spans_too(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    with collector() as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        file = tmp_path / "sales.jsonl"
        file.write_text("\n".join(json.dumps(sale(f"order-{number}")) for number in range(3)))
        ended = run.start(["-m", "trackdesk_worker", "import", str(file), "--json"], exporting(traces))
        assert ended.wait(30) == 0, run.log_text()
        (span,) = traces.named(f"enqueue {keys.namespace}")
        assert (span.service, span.attributes["messaging.batch.message_count"]) == ("trackdesk-cli", 3)


def test_a_collector_that_hangs_delays_neither_delivery_nor_the_end_of_a_worker(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"}
    with collector(answer_after_s=60) as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        worker = run.start_worker({**QUICK, **exporting(traces, **small)})
        ids = [f"order-{number}" for number in range(300)]
        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        run.wait_until_finished(within_s=20)
        assert trackdesk.exactly_once(ids, tenant="acme").ok
        wait_until(lambda: traces.requests > 0, "the collector was asked")
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert time.monotonic() - began < 3 + SHUTDOWN_S


MISSING = "import sys; sys.modules['opentelemetry'] = None"
"""As if the packages were not installed: every import of them fails."""
SELL = (
    "from trackdesk_producer import Producer; import sys; "
    "assert Producer(sys.argv[1], tenant='acme', namespace=sys.argv[2]).enqueue("
    "{'conversionTypeCode': 'lead', 'cid': 'c', 'externalId': 'order-1'}).ok"
)


def test_without_the_packages_a_shop_sells_and_a_worker_says_what_is_missing_and_delivers(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    with deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        shop = run.start(["-c", f"{MISSING}\n{SELL}", server.url, keys.namespace])
        assert shop.wait(20) == 0, run.log_text()
        run.start_worker(exporting("http://127.0.0.1:9"), planted=MISSING)
        assert run.wait_until_finished().jobs["delivered"] == 1
        (said,) = [line for line in run.log_text().splitlines() if "tracing.unavailable" in line]
        assert "pip install 'trackdesk-worker[otel]'" in said


def test_without_configuration_neither_a_shop_nor_a_worker_imports_what_makes_and_sends_spans(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    # redis-py imports OpenTelemetry's metrics where the packages are installed; that is neither ours nor of ours.
    watch = (
        "import atexit, sys; names = ('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'google.protobuf')\n"
        "atexit.register(lambda: print('IMPORTED', [name for name in names if name in sys.modules], flush=True))"
    )
    with deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        shop = run.start(["-c", f"{watch}\n{SELL}", server.url, keys.namespace])
        assert shop.wait(20) == 0, run.log_text()
        worker = run.start_worker(planted=watch)
        run.wait_until_finished()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert run.log_text().count("IMPORTED []") == 2, run.log_text()


def test_a_shop_that_only_passes_its_callers_context_on_has_it_carried(
    server: EmbeddedServer, keys: Keys, tmp_path: Path, trackdesk: SimulatorProcess
) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    passing = (
        "from opentelemetry import context, propagate\n"
        f"context.attach(propagate.extract({{'traceparent': '00-{trace_id}-00f067aa0ba902b7-01'}}))"
    )
    with collector() as traces, deployment(server, keys, tmp_path, trackdesk.base_url) as run:
        shop = run.start(["-c", f"{passing}\n{SELL}", server.url, keys.namespace])
        assert shop.wait(20) == 0, run.log_text()
        run.start_worker({**QUICK, **exporting(traces)})
        wait_until(lambda: bool(deliveries(traces, run, "order-1")), "the delivery was exported")
        (span,) = deliveries(traces, run, "order-1")
        assert (span.trace_id, span.parent_id) == (trace_id, "00f067aa0ba902b7")
