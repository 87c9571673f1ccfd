"""What a background duty is: something small that every worker does now and then, guarded on its own by the loop."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import structlog

from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.telemetry.labels import DutyName
from trackdesk_worker.telemetry.metrics import WorkerMetrics

T = TypeVar("T")

BATCH = 500
"""Jobs per script call: a few ms of the store's time."""


@dataclass(frozen=True, slots=True)
class DutyContext:
    """What the duties of one process share.

    The store's connections are their own: neither Celery nor the delivery loop uses them.
    """

    store: JobStore
    metrics: WorkerMetrics
    log: structlog.typing.FilteringBoundLogger


class Turn:
    """The time that one run of a duty may take. Asking for it is a sign of life."""

    def __init__(self, share_s: float, beat: Callable[[], None] = lambda: None) -> None:
        self._ends_at = time.monotonic() + share_s
        self._beat = beat

    def over(self) -> bool:
        """Return whether the time is up."""
        self._beat()
        return time.monotonic() >= self._ends_at

    def left_s(self) -> float:
        """Return the time that is left; never below 0."""
        return max(0.0, self._ends_at - time.monotonic())

    def drain(self, step: Callable[[], int], full: int = BATCH) -> int:
        """Repeat `step` until it moves less than `full` or the time is up; return what it moved in all."""
        moved = 0
        while True:
            done = step()
            moved += done
            if done < full or self.over():
                return moved


class Duty(ABC):
    """One background duty. Any number of workers may do it at the same time: the scripts make that safe."""

    name: ClassVar[DutyName]
    every_s: ClassVar[float] = 0.0
    """Pause between two runs; 0: in every round."""
    share_s: ClassVar[float] = 0.1
    """Time of one round that this duty may take, about. It drains what is due within it, and goes on in the next."""

    def __init__(self, context: DutyContext) -> None:
        self._store = context.store
        self._metrics = context.metrics
        self._log = context.log

    @abstractmethod
    def run_once(self, turn: Turn) -> None:
        """Do what is due. What it raises is logged and counted, and holds up no other duty."""
