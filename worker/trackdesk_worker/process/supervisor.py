"""Keeps a few processes of ours running: restarts those that end, stops all of them in good order on a signal."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

POLL_S = 0.1
RESTART_S = (0.5, 30.0)
"""First and longest pause before a process is started again; a minute of life starts over."""
PROVEN_S = 60.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running: ``trackdesk`` with these arguments and extra variables."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    """Where its output goes; None: to ours."""


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    started: float
    pause_s: float = 0.0
    restart_at: float | None = None


class Supervisor:
    """Runs children until a signal. `notify` gets one plain line per event worth an operator's time."""

    def __init__(self, children: Sequence[Child], *, grace_s: float, notify: Callable[[str], None]) -> None:
        self._children = children
        self._grace_s = grace_s
        self._notify = notify
        self._stop = threading.Event()
        self._running: list[_Running] = []

    def start(self) -> None:
        """Start all children."""
        self._running = [_Running(child, _spawn(child), time.monotonic()) for child in self._children]

    def watch(self) -> None:
        """Restart what ended, once."""
        now = time.monotonic()
        for running in self._running:
            if running.restart_at is not None:
                if now >= running.restart_at:
                    running.process, running.started, running.restart_at = _spawn(running.child), now, None
                continue
            code = running.process.poll()
            if code is None:
                continue
            first, longest = RESTART_S
            proven = now - running.started > PROVEN_S
            running.pause_s = first if proven or not running.pause_s else min(longest, running.pause_s * 2)
            running.restart_at = now + running.pause_s
            self._notify(f"{running.child.name} ended with {_ending(code)}; starting it again in {running.pause_s:g} s")

    def run(self) -> None:
        """Start, watch and, when asked to, stop. SIGTERM and SIGINT ask."""
        handlers = {signum: signal.signal(signum, self._on_signal) for signum in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            while not self._stop.wait(POLL_S):
                self.watch()
        finally:
            self.stop()
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

    def stop(self) -> None:
        """Ask every child to end, wait for the grace time, then kill what is left."""
        alive = [r for r in self._running if r.process.poll() is None]
        for running in alive:
            running.process.terminate()
        deadline = time.monotonic() + self._grace_s
        for running in alive:
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._notify(f"{running.child.name} did not end within {self._grace_s:g} s and was killed")
                running.process.kill()
                running.process.wait()
        self._running = []

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._stop.set()


def _spawn(child: Child) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        output = None if child.log is None else stack.enter_context(child.log.open("ab"))
        return subprocess.Popen(
            [sys.executable, "-m", "trackdesk_worker", *child.arguments],
            env={**os.environ, **child.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C reaches us alone; we stop the children in order.
            start_new_session=True,
        )


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
