"""Throughput and processor time between two moments of steady work, as the stub counts its requests.

Jobs are queued before the worker starts. Its start, the first connections and the tail of the last requests lie
outside the window, for our worker and for every peer alike.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.benchmarks.measure.rig import StubProcess
from tests.benchmarks.measure.usage import Usage, groups_usage

FROM_SHARE = 0.15
TO_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between the two moments."""

    requests: int
    seconds: float
    cpu_s: Mapping[str, float]
    """Name of a group of processes → its processor time."""

    @property
    def per_second(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def cpu_us(self, name: str) -> float:
        """Processor time of one group per request, in µs."""
        return self.cpu_s[name] / self.requests * 1e6


@dataclass(frozen=True, slots=True)
class _Moment:
    requests: int
    at: float
    used: Mapping[str, Usage]


def measure(
    stub: StubProcess, jobs: int, processes: Mapping[str, Iterable[int]], *, start: int = 0, within_s: float = 300
) -> Window:
    """Watch `jobs` requests arrive after the first `start`; `processes` names process groups to account for."""

    def moment(share: float) -> _Moment:
        stub.wait_for(start + int(jobs * share), within_s=within_s)
        used = {name: groups_usage(groups) for name, groups in processes.items()}
        return _Moment(stub.count(), time.perf_counter(), used)

    first, last = moment(FROM_SHARE), moment(TO_SHARE)
    return Window(
        requests=last.requests - first.requests,
        seconds=last.at - first.at,
        cpu_s={name: last.used[name].cpu_s - first.used[name].cpu_s for name in processes},
    )
