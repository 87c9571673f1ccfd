"""The Celery worker: it listens for wake-ups, nothing else. docs/architecture.md has a reason for each setting."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog
from celery import Celery, bootsteps, signals
from celery.worker.consumer import Consumer
from kombu.entity import Exchange, Queue

from trackdesk_producer._redis.address import parse_address
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import Settings, SettingsInvalid
from trackdesk_worker.ops.readiness import store_ready
from trackdesk_worker.process import bootstrap, tasks
from trackdesk_worker.process.metrics_server import WorkerServer
from trackdesk_worker.process.runtime import WorkerRuntime
from trackdesk_worker.telemetry.health import Health
from trackdesk_worker.telemetry.labels import Signal
from trackdesk_worker.telemetry.log_writer import open_log_writer, standard_streams_through
from trackdesk_worker.telemetry.logging import configure_logging
from trackdesk_worker.telemetry.metrics import WorkerMetrics

BROKER_SOCKET_TIMEOUT_S = 12.0
"""Above the 10 s for which kombu's BRPOP waits; without it a publish to a silent Redis hangs for ever.

A stop waits for it when the broker's connection is half open, so it stays below the stop grace period.
"""

RECONNECT_MAX_S = 5.0
"""Longest pause between two tries to reach the broker; kombu's own would grow to 30 s, long after the store is back."""
REFUSED_PAUSE_S = 1.0
"""Pause after a broker that let us connect and refused the first command, as a replica does. Celery has none."""
CONSUMER_BEAT_S = 2.0


class Listener(Consumer):  # type: ignore[misc]
    """Celery's consumer, with less patience between two tries to connect, and more with messages that are none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        loop: Callable[..., None] = self.loop  # type: ignore[has-type] # Celery's

        def tolerant(*args: Any) -> None:
            try:
                loop(*args)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                # What kombu raises for bytes that another program put there. They are gone: connect again and go on.
                raise ConnectionError("a message that is no wake-up was dropped") from error

        self.loop = tolerant

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long it takes."""
        conn.ensure_connection = partial(conn.ensure_connection, interval_max=RECONNECT_MAX_S)
        return super().ensure_connected(conn)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Log, and pause before the next try: the address may lead to a replica until a failover is complete."""
        super().on_connection_error_before_connected(exc)
        time.sleep(REFUSED_PAUSE_S)


def create_app(settings: Settings, runtime: WorkerRuntime) -> Celery:
    """Return the app whose worker runs `runtime`."""
    keys = Keys(settings.namespace)
    broker = _broker(settings.redis_url.get_secret_value())
    transport = broker.pop("transport")
    app = Celery("trackdesk", set_as_current=False)
    app.conf.update(
        **broker,
        task_default_queue=keys.wakeups,
        # The anonymous exchange: a delivery is exactly LPUSH <queue>, which the scripts do themselves.
        task_queues=[Queue(keys.wakeups, Exchange(""), routing_key=keys.wakeups)],
        task_ignore_result=True,
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # The default gives up after 100 tries; a worker waits for its broker as long as it takes.
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # READONLY or OOM from a broker that fails over must not end the worker: it connects again, which leads to the
        # new master.
        broker_channel_error_retry=True,
        broker_transport_options={
            "socket_timeout": BROKER_SOCKET_TIMEOUT_S,
            "socket_connect_timeout": 2.0,
            "socket_keepalive": True,
            "health_check_interval": 10,
            # kombu's bookkeeping of wake-ups, inside our namespace: two deployments may share a server.
            "unacked_key": f"{keys.prefix}celery:unacked",
            "unacked_index_key": f"{keys.prefix}celery:unacked_index",
            "unacked_mutex_key": f"{keys.prefix}celery:unacked_mutex",
            **transport,
        },
    )
    tasks.register(app, runtime)
    app.steps["worker"].add(_step(runtime))
    app.steps["consumer"].add(_beating(runtime))
    return app


def serve(settings: Settings) -> int:
    """Run one worker process, with its metrics and health, until a signal ends it; return the exit code."""
    metrics, health = WorkerMetrics(), Health(expected=("delivery", "maintenance"))
    output = open_log_writer(lambda lines: metrics.telemetry_dropped(Signal.LOG, lines))
    with standard_streams_through(output):
        configure_logging(settings.log_level, output)
        return _serve(settings, metrics, health)


def _serve(settings: Settings, metrics: WorkerMetrics, health: Health) -> int:
    # Here, in the process that delivers: the exporter's thread would not live through a fork.
    tracing = bootstrap.open_traces(
        settings, service="trackdesk-worker", notify=_tell_tracing, drop=lambda: metrics.telemetry_dropped(Signal.TRACE)
    )
    runtime = WorkerRuntime(settings, metrics=metrics, health=health, tracing=tracing)
    app = create_app(settings, runtime)

    def begin_stop(**_: Any) -> None:
        runtime.stop_claiming()

    def keep_logging(**_: Any) -> None:
        """Keep Celery from configuring logging its way: being connected is enough."""

    signals.worker_shutting_down.connect(begin_stop, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    server = start_metrics_server(settings, metrics, health)
    try:
        worker = app.Worker(
            consumer_cls=Listener, without_gossip=True, without_mingle=True, without_heartbeat=True, quiet=True
        )
        worker.start()
    finally:
        if server is not None:
            server.stop()
        if tracing is not None:
            tracing.stop()
    if runtime.failed:
        return 1
    return int(worker.exitcode or 0)


def _tell_tracing(problem: str) -> None:
    structlog.get_logger("trackdesk.tracing").warning("tracing.unavailable", detail=problem)


def start_metrics_server(settings: Settings, metrics: WorkerMetrics, health: Health) -> WorkerServer | None:
    """Serve metrics and health on the port of the settings; port 0 serves nothing.

    Raises:
        SettingsInvalid: if the address cannot be used.
    """
    if not settings.metrics_port:
        return None
    store = bootstrap.open_store(settings)
    try:
        server = WorkerServer(
            settings.metrics_host,
            settings.metrics_port,
            registry=metrics.registry,
            health=health,
            ready=lambda: store_ready(store),
        )
    except OSError as error:
        raise SettingsInvalid(
            f"TRACKDESK_METRICS_PORT: {settings.metrics_host}:{settings.metrics_port} cannot be used: {error.strerror}"
        ) from error
    server.start()
    return server


def _step(runtime: WorkerRuntime) -> type[bootsteps.StartStopStep]:
    class Delivery(bootsteps.StartStopStep):  # type: ignore[misc]
        """Starts before Celery connects and stops after its pool has ended."""

        def __init__(self, worker: Any, **kwargs: Any) -> None:
            super().__init__(worker, **kwargs)

        def start(self, worker: Any) -> None:
            runtime.start()

        def stop(self, worker: Any) -> None:
            runtime.stop()

    return Delivery


def _beating(runtime: WorkerRuntime) -> type[bootsteps.StartStopStep]:
    class Beating(bootsteps.StartStopStep):  # type: ignore[misc]
        """Says every few seconds that the consumer's loop turns; while it is not connected, nothing says so."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, consumer: Any, **kwargs: Any) -> None:
            super().__init__(consumer, **kwargs)
            self._timer: Any = None

        def start(self, consumer: Any) -> None:
            runtime.consumer_beats()
            self._timer = consumer.timer.call_repeatedly(CONSUMER_BEAT_S, runtime.consumer_beats)

        def stop(self, consumer: Any) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Beating


def _broker(url: str) -> dict[str, Any]:
    """Return the store's address as Celery and kombu spell it."""
    address = parse_address(url)
    transport: dict[str, Any] = {}
    if address.scheme == "unix":
        return {"broker_url": "redis+socket://" + url.removeprefix("unix://"), "transport": transport}
    options = address.options
    # Every alternative carries the credentials: kombu asks the one it is connected through.
    user = f"{quote(options.get('username', ''), safe='')}:{quote(options.get('password', ''), safe='')}@"
    login = user if options.get("password") else ""
    if address.master is None:
        ((host, port),) = address.hosts
        broker = f"{address.scheme}://{login}{_bracketed(host)}:{port or 6379}/{options.get('db', 0)}"
    else:
        broker = ";".join(
            f"sentinel://{login}{_bracketed(host)}:{port}/{options['db']}" for host, port in address.sentinels
        )
        transport["master_name"] = address.master
        if address.tls:
            transport["sentinel_kwargs"] = {"ssl": True, "socket_connect_timeout": 2.0, **address.tls_options}
    said: dict[str, Any] = {"broker_url": broker, "transport": transport}
    if address.tls:
        said["broker_use_ssl"] = {"ssl_cert_reqs": "required", **address.tls_options}
    return said


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
