"""Where log lines leave a process: a thread of their own writes them, so that nobody waits for a log that cannot be
written.

A full disk or a closed pipe raises, and a pipe that nobody reads blocks its writer for ever. Here both cost lines,
which are counted, and nothing else.
"""

import atexit
import contextlib
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Iterator

WHOLE_BYTES = 4_096
"""A write of so much reaches a pipe in one piece (PIPE_BUF), beside those of other processes with the same stderr."""
MOST_WAITING = 2_000
"""Parts that wait for the thread, at most about 8 MB; what comes then is dropped."""
CLOSE_WITHIN_S = 1.0
"""How long the end of a process waits for its last lines to be written."""
POLL_MS = 1_000
NOWHERE = -1
"""No descriptor: every line is dropped, and counted."""


class LogWriter:
    """A text stream whose `write` never raises and never blocks. Any thread, and a signal handler, may call it.

    It has no `fileno`: who asks for one (Celery, when a signal arrives) would write past the thread.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, descriptor: int, dropped: Callable[[int], None] = lambda _: None) -> None:
        """Write to `descriptor`, which stays open; `dropped` gets the number of lines that were lost, each time."""
        self._descriptor = descriptor
        self._dropped = dropped
        # Reentrant, as no lock of Python's is: a signal handler may log while its own thread does.
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._torn = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> int:
        """Hand text over to the thread, or drop it if too much waits."""
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(text)
        else:
            self.drop(text.count("\n"))
        return len(text)

    def write_line(self, line: str) -> None:
        """Hand one line over."""
        self.write(f"{line}\n")

    def drop(self, lines: int = 1) -> None:
        """Count lines that are lost."""
        with contextlib.suppress(Exception):
            self._dropped(lines)

    def flush(self) -> None:
        """Do nothing: the thread writes as soon as it can."""

    def isatty(self) -> bool:
        """Return False: lines are for programs."""
        return False

    def close(self, within_s: float = CLOSE_WITHIN_S) -> None:
        """Write what waits, for `within_s` at most."""
        self._waiting.put(None)
        self._thread.join(within_s)

    def _run(self) -> None:
        part: str | None = ""
        while part is not None:
            part = self._waiting.get()
            lines = part or ""
            # Small parts leave together, in one write, as long as it stays whole.
            while part is not None and not self._waiting.empty() and len(lines) < WHOLE_BYTES:
                part = self._waiting.get()
                if len(lines) + len(part or "") > WHOLE_BYTES:
                    self._put_out(lines)
                    lines = ""
                lines += part or ""
            self._put_out(lines)

    def _put_out(self, text: str) -> None:
        if not text:
            return
        data = text.encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # another process made the pipe so
                self._await_room()
            except (OSError, ValueError):
                self._torn = True
                self.drop(max(1, data.count(b"\n")))
                return
        self._torn = False

    def _await_room(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll(POLL_MS)


def open_log_writer(dropped: Callable[[int], None] = lambda _: None) -> LogWriter:
    """Return what writes to this process's stderr."""
    closed = sys.__stderr__ is None
    _fill_standard_descriptors()
    return LogWriter(NOWHERE if closed else os.dup(2), dropped)


@contextlib.contextmanager
def standard_streams_through(writer: LogWriter) -> Iterator[None]:
    """Let whatever this process prints, tracebacks of other threads included, leave through `writer` meanwhile."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr", "__stdout__", "__stderr__")}
    for name in before:
        setattr(sys, name, writer)
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(sys, name, stream)


def _fill_standard_descriptors() -> None:
    """Open the null device where stdin, stdout or stderr is closed: the next socket would get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
