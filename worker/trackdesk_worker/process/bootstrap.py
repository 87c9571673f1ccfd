"""The only place that opens connections."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from trackdesk_producer import Producer
from trackdesk_producer._redis.connections import open_async_client, open_client
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import Settings, tracing_protocol, tracing_wanted
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.store.job_store import AsyncJobStore, JobStore
from trackdesk_worker.telemetry.tracing import Tracing, TracingUnavailable, open_tracing
from trackdesk_worker.trackdesk.client import TrackdeskClient

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
"""Of the worker and of operators' commands. A store that is silent for longer counts as away; callers try again.

When every connection of a worker goes dead at once (half open), the maintenance finds its own dead first, wakes the
delivery loop, and only then that one finds its own: twice this time must stay below 15 s
(`tests/chaos/test_crash_matrix.py`).
"""
_OPTIONS: Mapping[str, Any] = {
    "socket_connect_timeout": CONNECT_TIMEOUT_S,
    "socket_timeout": ANSWER_TIMEOUT_S,
    "socket_keepalive": True,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}


def open_store(settings: Settings) -> JobStore:
    """Return this deployment's store; it connects on first use, and closes at the end of a ``with`` block."""
    client = open_client(settings.redis_url.get_secret_value(), **_OPTIONS)
    return JobStore(client, Keys(settings.namespace))


def open_async_store(settings: Settings) -> AsyncJobStore:
    """Return this deployment's store for an event loop; it connects on first use."""
    client = open_async_client(settings.redis_url.get_secret_value(), **_OPTIONS)
    return AsyncJobStore(client, Keys(settings.namespace))


def open_producer(settings: Settings) -> Producer:
    """Return a producer with this deployment's settings and an operator's patience."""
    tenants = Tenants(settings)
    return Producer(
        settings.redis_url.get_secret_value(),
        tenant=settings.tenant,
        namespace=settings.namespace,
        durability=settings.durability,
        identity_by_type=lambda tenant: tenants.get(tenant).identity_by_type,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        timeout_s=ANSWER_TIMEOUT_S,
        dedupe_window_s=settings.dedupe_window_s,
    )


def open_traces(
    settings: Settings, *, service: str, notify: Callable[[str], None], drop: Callable[[], None] = lambda: None
) -> Tracing | None:
    """Return what sends spans to the collector that OTEL_* variables name; None, and no import, where none is named.

    Args:
        notify: gets a sentence when traces are asked for and cannot be had; work goes on without them.
        drop: counts spans that cannot be recorded.
    """
    if not tracing_wanted():
        return None
    try:
        protocol = tracing_protocol()
        return open_tracing(namespace=settings.namespace, service=service, protocol=protocol, drop=drop)
    except TracingUnavailable as error:
        notify(str(error))
        return None


@contextmanager
def open_traced_producer(settings: Settings, *, notify: Callable[[str], None]) -> Iterator[Producer]:
    """Open a producer for one command, whose spans leave with it; `notify` as in `open_traces`."""
    tracing = open_traces(settings, service="trackdesk-cli", notify=notify)
    if tracing is not None:
        tracing.publish()
    try:
        with open_producer(settings) as producer:
            yield producer
    finally:
        if tracing is not None:
            tracing.stop()


def open_trackdesk(settings: Settings, tenants: Tenants) -> TrackdeskClient:
    """Return the client that delivers; it belongs to the running event loop."""
    return TrackdeskClient(
        lambda tenant: tenants.get(tenant).endpoint,
        connect_timeout_s=min(CONNECT_TIMEOUT_S, settings.timeout_s),
        timeout_s=settings.timeout_s,
        concurrency=settings.concurrency,
        trust_env=settings.trust_env,
    )
