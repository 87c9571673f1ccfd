"""Named places in the real processes at which a test kills a process.

The product holds no hooks: `arm` wraps its seams in the process that is to die, before that process runs the
product's own command line (`tests/support/launcher.py`).
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SENT_AFTER_S = 0.02
"""By then a request has left for a Trackdesk next door, which answers later than that."""
SMALL_BATCH = 7
"""Lines or jobs per trip of the dying import, redrive or discard, so that it has a middle to die in."""


class Role(StrEnum):
    """Which process dies."""

    WORKER = "worker"
    STOP = "stop"
    """A worker that got SIGTERM."""
    IMPORT = "import"
    REDRIVE = "redrive"
    DISCARD = "discard"


@dataclass(frozen=True)
class Point:
    """One place."""

    name: str
    role: Role
    passages: int
    """A run dies at one of the first so many passages."""


def _around(script: str, role: Role, passages: int) -> tuple[Point, Point]:
    return Point(f"{script}.before", role, passages), Point(f"{script}.after", role, passages)


POINTS: tuple[Point, ...] = (
    *_around("claim", Role.WORKER, 6),
    *_around("settle", Role.WORKER, 6),
    *_around("promote", Role.WORKER, 2),
    Point("reclaim.before", Role.WORKER, 2),
    Point("reclaim.after", Role.WORKER, 1),
    *_around("wake", Role.WORKER, 3),
    *_around("prune", Role.WORKER, 3),
    Point("scripts.reload", Role.WORKER, 2),
    Point("request.before", Role.WORKER, 12),
    Point("request.sent", Role.WORKER, 12),
    Point("request.answered", Role.WORKER, 12),
    Point("attempt.decided", Role.WORKER, 12),
    Point("settled.unlogged", Role.WORKER, 6),
    Point("settled.logged", Role.WORKER, 6),
    Point("maintenance.begins", Role.WORKER, 3),
    Point("maintenance.admission", Role.WORKER, 3),
    Point("maintenance.ends", Role.WORKER, 3),
    Point("stop.begins", Role.STOP, 1),
    Point("stop.drained", Role.STOP, 1),
    Point("stop.signs_off", Role.STOP, 1),
    Point("stop.signed_off", Role.STOP, 1),
    *_around("enqueue", Role.IMPORT, 4),
    Point("import.batch_reported", Role.IMPORT, 4),
    *_around("plan_create", Role.REDRIVE, 1),
    *_around("plan_list", Role.REDRIVE, 3),
    *_around("plan_transition", Role.REDRIVE, 1),
    *_around("audit_log", Role.REDRIVE, 2),
    *_around("plan_step", Role.DISCARD, 2),
)
BY_NAME = {point.name: point for point in POINTS}

_MUST_MOVE = {"promote.after": lambda reply: reply, "reclaim.after": lambda reply: reply[0] + reply[1]}
"""Duties that mostly find nothing to do: dying after one that did nothing would prove nothing."""


class Fuse:
    """Kills the process at one passage of one point."""

    def __init__(self, point: str, passage: int) -> None:
        self.point = point
        self._left = passage
        self._lock = threading.Lock()

    def passed(self, point: str) -> None:
        """Note a passage; at the chosen one this does not return."""
        if point != self.point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.write(2, f"crash point {point}\n".encode())  # what waits for the log dies with us
                os.kill(os.getpid(), signal.SIGKILL)
                threading.Event().wait()


def arm(point: str, passage: int) -> None:
    """Wrap the seams of this process, so that it dies at the given passage of `point`."""
    fuse = Fuse(point, passage)
    _wrap_scripts(fuse)
    match BY_NAME[point].role:
        case Role.WORKER | Role.STOP:
            _wrap_delivery(fuse)
            _wrap_maintenance(fuse)
            _wrap_stop(fuse)
        case Role.IMPORT:
            _wrap_import(fuse)
        case Role.REDRIVE | Role.DISCARD:
            from trackdesk_worker.store import plans

            plans.LISTED_AT_ONCE = plans.DECIDED_AT_ONCE = SMALL_BATCH


def _wrap_scripts(fuse: Fuse) -> None:
    from trackdesk_producer._redis import lines
    from trackdesk_producer.contract import runner

    run_raw, arun_raw = runner.run_raw, runner.arun_raw
    begin_raw, finish_raw = lines.begin_raw, lines.finish_raw  # type: ignore[attr-defined]

    def before(calls: Sequence[Any]) -> None:
        for call in calls:
            fuse.passed(f"{call.script.name}.before")

    def after(calls: Sequence[Any], replies: list[Any]) -> list[Any]:
        for call, reply in zip(calls, replies, strict=False):
            name = f"{call.script.name}.after"
            if not isinstance(reply, Exception) and (name not in _MUST_MOVE or _MUST_MOVE[name](reply)):
                fuse.passed(name)
        return replies

    def reloads(commands: Sequence[Any]) -> None:
        if any(command[0] == "SCRIPT" for command in commands):
            fuse.passed("scripts.reload")

    def dying_run_raw(send: Callable[..., Any], calls: Sequence[Any], also: Sequence[Any] = ()) -> list[Any]:
        def dying_send(commands: Sequence[Any]) -> Any:
            reloads(commands)
            return send(commands)

        before(calls)
        return after(calls, run_raw(dying_send, calls, also))

    async def dying_arun_raw(
        send: Callable[..., Awaitable[Any]], calls: Sequence[Any], also: Sequence[Any] = ()
    ) -> list[Any]:
        async def dying_send(commands: Sequence[Any]) -> Any:
            reloads(commands)
            return await send(commands)

        before(calls)
        return after(calls, await arun_raw(dying_send, calls, also))

    def dying_begin_raw(write: Callable[..., None], calls: Sequence[Any], also: Sequence[Any] = ()) -> runner.Flight:
        before(calls)
        return begin_raw(write, calls, also)

    def dying_finish_raw(flight: runner.Flight, read: Callable[..., Any], send: Callable[..., Any]) -> list[Any]:
        return after(flight.calls, finish_raw(flight, read, send))

    runner.run_raw, runner.arun_raw = dying_run_raw, dying_arun_raw
    lines.run_raw, lines.begin_raw, lines.finish_raw = dying_run_raw, dying_begin_raw, dying_finish_raw  # type: ignore[attr-defined]


def _wrap(fuse: Fuse, owner: Any, method: str, *, before: str | None = None, after: str | None = None) -> None:
    original = getattr(owner, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        fuse.passed(before or "")
        result = original(*arguments, **options)
        fuse.passed(after or "")
        return result

    setattr(owner, method, wrapped)


def _wrap_async(fuse: Fuse, owner: Any, method: str, *, before: str | None = None, after: str | None = None) -> None:
    original = getattr(owner, method)

    async def wrapped(*arguments: Any, **options: Any) -> Any:
        fuse.passed(before or "")
        result = await original(*arguments, **options)
        fuse.passed(after or "")
        return result

    setattr(owner, method, wrapped)


def _wrap_delivery(fuse: Fuse) -> None:
    from trackdesk_worker.delivery.attempt import Attempts
    from trackdesk_worker.delivery.loop import DeliveryLoop
    from trackdesk_worker.trackdesk.client import TrackdeskClient

    _wrap_async(fuse, TrackdeskClient, "send", before="request.before", after="request.answered")
    _wrap_async(fuse, Attempts, "make", after="attempt.decided")
    _wrap(fuse, DeliveryLoop, "_settled", before="settled.unlogged", after="settled.logged")
    if fuse.point == "request.sent":
        exchange = TrackdeskClient._exchange

        async def watched(*arguments: Any) -> Any:
            under_way = asyncio.ensure_future(exchange(*arguments))
            await asyncio.wait({under_way}, timeout=SENT_AFTER_S)
            fuse.passed("request.sent")
            return await under_way

        TrackdeskClient._exchange = watched  # type: ignore[method-assign, assignment]


def _wrap_maintenance(fuse: Fuse) -> None:
    from trackdesk_worker.maintenance.admission import Admission
    from trackdesk_worker.maintenance.heartbeat import Heartbeat
    from trackdesk_worker.maintenance.loop import Maintenance

    _wrap(fuse, Maintenance, "run_once", before="maintenance.begins", after="maintenance.ends")
    _wrap(fuse, Admission, "run_once", before="maintenance.admission")
    _wrap(fuse, Heartbeat, "sign_off", before="stop.signs_off", after="stop.signed_off")


def _wrap_stop(fuse: Fuse) -> None:
    from trackdesk_worker.maintenance.loop import MaintenanceLoop
    from trackdesk_worker.process.runtime import WorkerRuntime

    _wrap(fuse, WorkerRuntime, "stop_claiming", after="stop.begins")
    _wrap(fuse, MaintenanceLoop, "stop", before="stop.drained")


def _wrap_import(fuse: Fuse) -> None:
    from trackdesk_worker.ops.importing import importer
    from trackdesk_worker.ops.importing.rejects import RejectsFile

    importer.BATCH = SMALL_BATCH
    _wrap(fuse, RejectsFile, "flush", after="import.batch_reported")
