"""Cutting a failing world down to the few sales and events that matter."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.support.oracle.answers import Episode
from tests.support.oracle.judge import Violation
from tests.support.oracle.spec import LifeSpec, WorldSpec

T = TypeVar("T")
Fails = Callable[[WorldSpec], Violation | None]
"""Lives through a spec; returns how it failed."""


def shrink(spec: WorldSpec, first: Violation, fails: Fails, *, within_s: float = 120) -> tuple[WorldSpec, Violation]:
    """Return the smallest spec found that fails in the same way, and how."""
    search = _Search(spec, first, fails, time.monotonic() + within_s)
    if first.life is not None:
        number = first.life.external_id
        alone = tuple(life for life in spec.lives if life.sale["externalId"] == number)
        beside = tuple(life for life in spec.lives if life.tenant == first.life.tenant)
        smaller = (replace(spec, lives=alone, happenings=()), replace(spec, lives=alone), replace(spec, lives=beside))
        any(search.try_(one) for one in smaller)
    search.reduce(lambda s: s.lives, lambda s, lives: replace(s, lives=lives))
    search.reduce(lambda s: s.happenings, lambda s, happenings: replace(s, happenings=happenings))
    for place in range(len(search.spec.lives)):
        for simpler in _simpler(search.spec.lives[place]):
            search.try_life(place, simpler)
        for field in ("episodes", "acts", "shop"):
            search.reduce(
                lambda s: getattr(s.lives[place], field),  # noqa: B023 - called at once
                lambda s, left: _with_life(s, place, replace(s.lives[place], **{field: left})),  # type: ignore[arg-type]  # noqa: B023
            )
    return search.spec, search.violation


class _Search:
    def __init__(self, spec: WorldSpec, violation: Violation, fails: Fails, deadline: float) -> None:
        self.spec, self.violation = spec, violation
        self._fails, self._deadline = fails, deadline

    def try_(self, spec: WorldSpec) -> bool:
        """Keep the spec if it fails in the same way."""
        if spec == self.spec or time.monotonic() > self._deadline:
            return False
        violation = self._fails(spec)
        if violation is None or violation.kind != self.violation.kind:
            return False
        self.spec, self.violation = spec, violation
        return True

    def try_life(self, place: int, life: LifeSpec) -> None:
        """Keep a simpler life if it fails in the same way."""
        self.try_(_with_life(self.spec, place, life))

    def reduce(
        self, parts: Callable[[WorldSpec], Sequence[T]], put: Callable[[WorldSpec, tuple[T, ...]], WorldSpec]
    ) -> None:
        """Leave out as many parts as can be: half of them, then quarters, then one by one."""
        size = max(1, len(parts(self.spec)) // 2)
        while parts(self.spec):
            start, dropped = 0, False
            while start < len(parts(self.spec)):
                there = tuple(parts(self.spec))
                if self.try_(put(self.spec, there[:start] + there[start + size :])):
                    dropped = True
                else:
                    start += size
            if size == 1 and not dropped:
                return
            size = max(1, size // 2)


def _with_life(spec: WorldSpec, place: int, life: LifeSpec) -> WorldSpec:
    return replace(spec, lives=(*spec.lives[:place], life, *spec.lives[place + 1 :]))


def _simpler(life: LifeSpec) -> Iterator[LifeSpec]:
    yield replace(life, at_ms=0)
    yield replace(life, wait_ms=0)
    yield replace(life, foreign="")
    for place, episode in enumerate(life.episodes):
        for answer in ("503 page", "timeout", "400 silent"):
            if episode.answer and episode.answer != answer:
                simpler = Episode(answer, commit=episode.commit and answer != "400 silent")
                yield replace(life, episodes=(*life.episodes[:place], simpler, *life.episodes[place + 1 :]))
