"""What a benchmark says: figures of several runs beside their targets."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Runs = Mapping[str, Sequence[float]]
"""Figure → one value per run."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that the median is held to."""

    value: float
    at_most: bool = True

    def met_by(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        return value <= self.value if self.at_most else value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:,g}"


def at_most(value: float) -> Target:
    """Return an upper bound."""
    return Target(value)


def at_least(value: float) -> Target:
    """Return a lower bound."""
    return Target(value, at_most=False)


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """One figure of a scenario."""

    unit: str
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, measured."""

    scenario: str
    name: str
    spec: FigureSpec
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value that counts."""
        return statistics.median(self.runs)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the target; None without one."""
        return None if self.spec.target is None else self.spec.target.met_by(self.median)

    def document(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        target = self.spec.target
        return {
            "name": self.name,
            "unit": self.spec.unit,
            "min": min(self.runs),
            "median": self.median,
            "max": max(self.runs),
            "runs": list(self.runs),
            "target": None if target is None else str(target),
            "met": self.met,
        }


def collect(runs: int, once: Callable[[int], Mapping[str, float]]) -> dict[str, list[float]]:
    """Run `once` several times (with the number of the run) and gather each figure's values."""
    gathered: dict[str, list[float]] = {}
    for number in range(runs):
        for name, value in once(number).items():
            gathered.setdefault(name, []).append(value)
    return gathered


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def plain(value: float) -> str:
    """Write a value with as many digits as mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
