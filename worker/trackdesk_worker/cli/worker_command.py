"""``trackdesk worker``."""

import click

from trackdesk_worker.config.settings import Settings, load_settings
from trackdesk_worker.process.supervisor import Child, Supervisor
from trackdesk_worker.telemetry.log_writer import open_log_writer


@click.command("worker")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes to run.")
@click.option("--concurrency", type=click.IntRange(1, 4096), help="Requests in flight per process.")
def command(processes: int, concurrency: int | None) -> int:
    """Deliver conversions until SIGTERM or Ctrl-C.

    Stopping takes as long as the requests in flight; nothing stays leased. With several processes, each has its own
    /metrics, counting up from TRACKDESK_METRICS_PORT.
    """
    settings = load_settings(concurrency=concurrency)
    if processes == 1:
        return _run_one(settings)
    output = open_log_writer()
    supervisor = Supervisor(
        [_child(settings, number) for number in range(processes)],
        grace_s=grace_s(settings),
        notify=output.write_line,
    )
    supervisor.run()
    return 0


def grace_s(settings: Settings) -> float:
    """Return how long a stopping worker may take: its requests, and settling them."""
    return settings.timeout_s + 15


def _child(settings: Settings, number: int) -> Child:
    port = settings.metrics_port + number if settings.metrics_port else 0
    return Child(
        name=f"worker {number + 1}",
        arguments=["worker", "--concurrency", str(settings.concurrency)],
        environment={"TRACKDESK_METRICS_PORT": str(port)},
    )


def _run_one(settings: Settings) -> int:
    # Late, so that --help and a supervisor do not pay for Celery.
    from trackdesk_worker.process.celery_app import serve

    return serve(settings)
