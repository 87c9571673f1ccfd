"""Whether a process is alive and whether its store is fit: three questions that must not be mixed.

Alive (``/livez``): its loops beat. Never asks Redis: a restart fixes no store. Started (``/startupz``): every
loop has beaten once. Ready (``/readyz``): the store can be reached, takes writes and keeps what it is given.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LIVE_MAX_AGE_S = 20.0
"""Loops beat every few seconds, and while the store is silent at least every 15."""


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """An answer, and a sentence for the person who reads it."""

    ok: bool
    detail: str


class Health:
    """Collects the beats of a process's loops. Thread-safe."""

    def __init__(self, expected: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._missing = set(expected)
        self._clock = clock
        self._beats: dict[str, float] = {}
        self._lock = threading.Lock()

    def beat(self, part: str) -> None:
        """Say that `part` moves; it must say so again within the age `live` allows."""
        with self._lock:
            self._beats[part] = self._clock()
            self._missing.discard(part)

    def watch(self, part: str) -> None:
        """Count from now for a part that has yet to beat for the first time."""
        with self._lock:
            self._beats.setdefault(part, self._clock())

    def touch(self, part: str) -> None:
        """Count from now for a part that may stand still for a good reason; nothing if it is not watched (any more)."""
        with self._lock:
            if part in self._beats:
                self._beats[part] = self._clock()

    def unregister(self, part: str) -> None:
        """Say that `part` ended as it should and beats no more until it starts again."""
        with self._lock:
            self._beats.pop(part, None)

    def live(self, max_age_s: float = LIVE_MAX_AGE_S) -> tuple[bool, str]:
        """Return whether every part that beats did so lately, and which did not."""
        with self._lock:
            now = self._clock()
            stuck = [f"{part} for {now - at:.0f} s" for part, at in sorted(self._beats.items()) if now - at > max_age_s]
        return (False, f"no beat: {', '.join(stuck)}") if stuck else (True, "alive")

    def started(self) -> tuple[bool, str]:
        """Return whether every expected part has beaten once, and which has not."""
        with self._lock:
            missing = sorted(self._missing)
        return (False, f"not started: {', '.join(missing)}") if missing else (True, "started")
