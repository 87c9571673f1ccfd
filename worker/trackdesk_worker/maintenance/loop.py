"""The loop that runs the duties: each guarded on its own, on a thread that nothing but the end of the process ends."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from trackdesk_worker.maintenance.duty import Duty, Turn
from trackdesk_worker.store.errors import store_away
from trackdesk_worker.telemetry.health import Health
from trackdesk_worker.telemetry.metrics import WorkerMetrics

PERIOD_S = 0.5
RETRY_S = (1.0, 60.0)
"""First and longest pause of a duty that failed; it doubles from failure to failure."""
AWAY_S = 2.0
"""Pause of a duty whose call got no answer. Longer than a round: were it only this call, the others have their turn."""


@dataclass(slots=True)
class _Scheduled:
    """A duty, and when it is due again."""

    duty: Duty
    due_at: float = 0.0
    pause_s: float = 0.0
    """Above 0 while it fails."""


class Maintenance:
    """The duties of one process, apart from their loop."""

    def __init__(
        self,
        duties: Sequence[Duty],
        *,
        sign_off: Callable[[], None],
        metrics: WorkerMetrics,
        log: structlog.typing.FilteringBoundLogger,
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduled = [_Scheduled(duty) for duty in duties]
        self.sign_off = sign_off
        self._metrics = metrics
        self._log = log
        self._beat = beat
        self._clock = clock

    def run_once(self) -> None:
        """Run every duty that is due, once. A duty that fails is logged, counted and rests; the others go on.

        Raises:
            RedisError: when the store cannot be used, which ends the round for every duty.
        """
        for scheduled in self._scheduled:
            if scheduled.due_at <= self._clock():
                self._beat()
                self._run(scheduled)

    def _run(self, scheduled: _Scheduled) -> None:
        duty = scheduled.duty
        try:
            duty.run_once(Turn(duty.share_s, self._beat))
        except Exception as error:
            if store_away(error):
                scheduled.due_at = self._clock() + AWAY_S
                raise
            first, longest = RETRY_S
            scheduled.pause_s = min(longest, max(first, scheduled.pause_s * 2))
            scheduled.due_at = self._clock() + scheduled.pause_s
            self._metrics.duty_failed(duty.name)
            self._log.exception("maintenance.duty_failed", duty=duty.name.value, again_in_s=scheduled.pause_s)
        else:
            scheduled.pause_s = 0.0
            scheduled.due_at = self._clock() + duty.every_s


class MaintenanceLoop:
    """The thread that runs the duties until `stop`."""

    def __init__(
        self,
        maintenance: Maintenance,
        *,
        metrics: WorkerMetrics,
        health: Health,
        log: structlog.typing.FilteringBoundLogger,
        period_s: float = PERIOD_S,
    ) -> None:
        self._maintenance = maintenance
        self._metrics = metrics
        self._health = health
        self._log = log
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the run under way, and wait for it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._health.beat("maintenance")
            self._metrics.heartbeat()
            try:
                self._maintenance.run_once()
            except Exception as error:
                if not store_away(error):
                    raise
                self._metrics.store_error()
                self._log.warning("store.unavailable", part="maintenance", error=type(error).__name__)
                self._health.touch("consumer")  # nobody can listen to a store that is away
            self._stop.wait(self._period_s)
        self._health.unregister("maintenance")
        try:
            self._maintenance.sign_off()
        except Exception:
            self._log.info("maintenance.sign_off_failed", exc_info=True)  # the entry ages out by itself
