"""The thread that writes logs: nobody who logs waits for it, and what it cannot write is counted."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest
import structlog

from tests.support.waiting import wait_until
from trackdesk_worker.telemetry import log_writer
from trackdesk_worker.telemetry.guard import guarded
from trackdesk_worker.telemetry.labels import Signal
from trackdesk_worker.telemetry.log_writer import LogWriter
from trackdesk_worker.telemetry.logging import buffered_log, configure_logging
from trackdesk_worker.telemetry.metrics import WorkerMetrics


class Pipe:
    """A pipe with a writer, whose reader the test is."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.lost: list[int] = []
        self.writer = LogWriter(self.writing, self.lost.append)

    def read(self, parts: int = 1) -> str:
        return b"".join(os.read(self.reading, 1 << 20) for _ in range(parts)).decode()

    def close(self) -> None:
        for descriptor in (self.reading, self.writing):
            os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.writer.close(5)
    made.close()


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], root.level = kept


def test_lines_arrive_in_order_and_whole(pipe: Pipe) -> None:
    for number in range(500):
        pipe.writer.write(f"{number}\n")
    pipe.writer.close(5)
    assert pipe.read() == "".join(f"{number}\n" for number in range(500))
    assert pipe.lost == []


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_its_lines_are_counted(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_WAITING", 10)
    line = "x" * 4_000 + "\n"
    began = time.monotonic()
    for _ in range(1_000):
        pipe.writer.write(line)
    pipe.writer.close(0.1)
    assert time.monotonic() - began < 5
    arrived = 0
    os.set_blocking(pipe.reading, False)

    def drained() -> bool:
        nonlocal arrived
        with contextlib.suppress(BlockingIOError):
            arrived += os.read(pipe.reading, 1 << 20).count(b"\n")
        return arrived + sum(pipe.lost) == 1_000

    wait_until(drained, "every line either arrived or was counted")
    assert sum(pipe.lost) > 500


@pytest.mark.parametrize("device", ["/dev/full", None])
def test_a_descriptor_that_refuses_costs_lines_only(device: str | None) -> None:
    lost: list[int] = []
    descriptor = -1 if device is None else os.open(device, os.O_WRONLY)
    writer = LogWriter(descriptor, lost.append)
    for _ in range(100):
        writer.write("two\nlines\n")
    writer.close(5)
    assert sum(lost) == 200


def test_after_a_torn_line_the_next_begins_on_a_line_of_its_own(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    full: Iterator[int | OSError] = iter([4, OSError(28, "no space")])

    def filling(descriptor: int, data: bytes) -> int:
        if descriptor != pipe.writing:
            return write(descriptor, data)
        step = next(full, None)
        if isinstance(step, OSError):
            raise step
        return write(descriptor, data if step is None else data[:step])

    monkeypatch.setattr(os, "write", filling)
    pipe.writer.write("first line\n")
    wait_until(lambda: bool(pipe.lost), "the first line is torn")
    pipe.writer.write("second line\n")
    pipe.writer.close(5)
    assert pipe.read().splitlines() == ["firs", "second line"]


def test_it_may_be_called_while_the_same_thread_logs(pipe: Pipe) -> None:
    """As a signal handler does: no lock may be taken twice."""
    done = threading.Event()

    def handler() -> None:
        pipe.writer.write("within\n")
        done.set()

    for _ in range(100):
        pipe.writer.write("outside\n")
        handler()
    assert done.is_set()
    assert not hasattr(pipe.writer, "fileno")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("cannot be printed")

    __repr__ = __str__


@pytest.mark.usefixtures("restored_logging")
def test_an_event_that_cannot_be_rendered_is_dropped_and_counted_by_every_kind_of_logger(
    pipe: Pipe, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", pipe.writer)
    structlog.get_logger("trackdesk").info("ours", what=Unprintable())
    logging.getLogger("kombu").warning("%s", Unprintable())
    logging.getLogger("kombu").warning("%d", "no number")
    log = buffered_log("trackdesk.delivery")
    log.info("delivery.attempt", tenant="acme", what=Unprintable())
    log.flush()
    structlog.get_logger("trackdesk").info("still here")
    pipe.writer.close(5)
    written = pipe.read()
    assert '"unrendered": ["event", ' in written
    assert "still here" in written
    assert sum(pipe.lost) == 3
    assert capfd.readouterr().err == "", "the standard library prints no traceback past the writer"


def test_a_count_that_fails_is_dropped_and_counted() -> None:
    metrics = WorkerMetrics()
    metrics.attempt(outcome="delivered", status=200, reason="paired", duration_s="soon")  # type: ignore[arg-type]
    metrics.claimed(-1, 0.1)
    assert metrics.registry.get_sample_value("trackdesk_telemetry_dropped_total", {"signal": Signal.METRIC}) == 2


def test_what_is_guarded_never_raises_and_is_counted() -> None:
    class Recording:
        dropped = 0

        def drop(self) -> None:
            self.dropped += 1

        @guarded
        def record(self, number: int) -> None:
            if number < 0:
                raise ValueError("negative")

    recording = Recording()
    recording.record(1)
    recording.record(-1)
    assert recording.dropped == 1
