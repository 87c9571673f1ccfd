"""Ends a process that is stuck: it must not look alive while it delivers nothing. Its supervisor starts another.

A thread looks at the beats every second. A part that has not beaten for `STUCK_S` makes the process unhealthy (`/livez`
says which part), logs the stack of every thread, and starts an orderly stop; what has
not ended `GRACE_S` later is cut off. Should nothing in Python run any more, this thread included, the interpreter's own
timer ends the process, and the system's alarm, should even that one wait for a log nobody reads. Nothing is lost by it:
leases run out, and what was in flight is tried again.
"""

import contextlib
import faulthandler
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import structlog

from trackdesk_worker.telemetry.health import LIVE_MAX_AGE_S, Health

STUCK_S = LIVE_MAX_AGE_S
"""Above every wait a part may have with a silent store: `TRIP_S` of the delivery, `ANSWER_TIMEOUT_S` of maintenance."""
GRACE_S = 5.0
FROZEN_S = 25.0
"""After which the interpreter's timer ends a process in which not even this thread runs."""
ALARM_AFTER_S = 5
"""How much later the system's alarm ends it."""
PERIOD_S = 1.0


class Watchdog:
    """Watches from `start` to `stop`; `failed` is called before the process is asked to stop."""

    def __init__(
        self, health: Health, *, failed: Callable[[], None], log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._health = health
        self._failed = failed
        self._log = log
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End watching."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)

    def _watch(self) -> None:
        while not self._done.wait(PERIOD_S):
            with contextlib.suppress(OSError, ValueError):  # stderr is closed
                faulthandler.dump_traceback_later(FROZEN_S, exit=True, file=2)
            signal.alarm(math.ceil(FROZEN_S) + ALARM_AFTER_S)
            alive, detail = self._health.live(STUCK_S)
            if not alive:
                self._end(detail)
                return

    def _end(self, detail: str) -> None:
        self._failed()
        self._log.critical("worker.stuck", detail=detail, threads=_stacks())
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._done.wait(GRACE_S):
            os._exit(1)


def _stacks() -> dict[str, str]:
    """Return the stack of every thread. Not by faulthandler, which would hold the interpreter while a log is stuck."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(number, '?')} {number}": "".join(traceback.format_stack(frame))
        for number, frame in sys._current_frames().items()  # the only way to them
    }
