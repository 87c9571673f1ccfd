"""What happens in a run of the crash matrix, drawn from its seed.

A seed fixes the plan: which process is killed at which point, which faults the store and Trackdesk have, and when. The
kernel's scheduling stays free: a repeated seed brings the same faults, not the same microseconds.
"""

import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Any

from tests.support.crash_points import POINTS, Point, Role


class StoreFault(StrEnum):
    """A fault of the store, or of the connections to it."""

    NONE = "none"
    KILL = "kill -9, AOF always"
    KILL_EVERYSEC = "kill -9, AOF everysec"
    POWER_CUT = "power cut, AOF everysec"
    """Kill -9, and the last second of the AOF is gone."""
    RESET = "every connection reset"
    SUSPEND = "SIGSTOP"
    HALF_OPEN = "half-open connections"
    FULL = "full"
    AT_THE_EDGE = "OOM in the middle of a call"
    FORGETS = "NOSCRIPT"
    FAILOVER = "failover behind one address"
    CLOCK = "clock jump and correction"
    BUSY = "-BUSY"
    LOADING = "-LOADING"
    MISCONF = "-MISCONF"


LOSES_A_SECOND = StoreFault.POWER_CUT


class SideFault(StrEnum):
    """A further fault, beside the crash and the store's."""

    NONE = "none"
    LOG_FULL = "a log on a full disk"
    LOG_CLOSED = "a log nobody reads any more"
    POISON = "a poison sale"
    TENANTS = "a bad tenants file"


TRACKDESK: dict[str, dict[str, Any]] = {
    "sound": {},
    "drops after commit": {"commit_then_drop": 0.3},
    "drops before commit": {"drop_before_commit": 0.3},
    "answers errors": {"error_rate": 0.4, "error_statuses": [500, 503]},
    "hangs and commits late": {"hang": 0.05, "commit_then_late": 0.1, "hang_s": 5, "late_s": 1.5},
    "everything": {
        "commit_then_drop": 0.1,
        "drop_before_commit": 0.1,
        "error_rate": 0.15,
        "error_statuses": [503],
        "commit_then_late": 0.05,
        "hang": 0.02,
        "hang_s": 5,
        "late_s": 1.5,
    },
}
FAILS = "answers errors"

COMBINATIONS: tuple[tuple[Point, StoreFault], ...] = tuple(product(POINTS, StoreFault))
_STRIDE = 101
"""Shares no factor with the number of combinations, so that neighbouring seeds lie far apart and all are met."""


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    point: Point
    passage: int
    store_fault: StoreFault
    fault_s: float
    """How long the store is away, where the fault lets us choose."""
    crash_first: bool
    """Whether the store's fault waits until the process has died; otherwise neither waits for the other."""
    after_share: float
    """Share of the first jobs that are delivered when the store's fault begins, unless the crash comes first."""
    trackdesk: str
    kind: str
    """valkey or redis."""
    jobs: int
    dead: int
    """Jobs among them that become dead letters first."""
    side_fault: SideFault = SideFault.NONE
    clock_s: int = 0
    """How far the store's clock jumps, where that is its fault."""

    def __str__(self) -> str:
        order = "then" if self.crash_first else "beside"
        return (
            f"seed {self.seed}: {self.point.name} at passage {self.passage} {order} {self.kind} "
            f"{self.store_fault.value} for {self.fault_s:.1f} s after {self.after_share:.0%}, "
            f"Trackdesk {self.trackdesk}, beside it: {self.side_fault.value}, {self.jobs} jobs"
        )


def plan(seed: int) -> Plan:
    """Return the plan of a seed; as many neighbouring seeds as there are combinations meet each of them once."""
    rng = random.Random(seed)
    beside = random.Random(f"beside {seed}")
    point, fault = COMBINATIONS[seed * _STRIDE % len(COMBINATIONS)]
    trackdesk = rng.choice(list(TRACKDESK))
    return Plan(
        seed=seed,
        point=point,
        passage=rng.randint(1, point.passages),
        store_fault=fault,
        fault_s=rng.choice([0.2, 0.5, 1.0, 2.5, 4.0]),
        crash_first=_alone(point) or (rng.random() < 0.5 and point.role in (Role.WORKER, Role.IMPORT)),
        after_share=rng.uniform(0.05, 0.6),
        trackdesk=FAILS if point.name.startswith("promote") else trackdesk,
        side_fault=beside.choice([SideFault.NONE, *SideFault]),
        clock_s=beside.choice([7_200, 600, -600]),
        kind=rng.choice(["valkey", "redis"]),
        jobs=rng.randint(40, 80),
        dead=20 if point.role in (Role.REDRIVE, Role.DISCARD) else 0,
    )


def _alone(point: Point) -> bool:
    """Whether another worker could do the duty before the one that is to die in it."""
    return point.name.startswith(("promote", "reclaim"))
