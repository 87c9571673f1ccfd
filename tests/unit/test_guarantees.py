"""The page of guarantees names what is really tested."""

from pathlib import Path

from tests.support.crash_points import POINTS
from tests.support.matrix_plan import COMBINATIONS, SideFault, StoreFault
from tests.support.planted import EDITS, TENANT_EDITS

PAGE = (Path(__file__).parents[2] / "docs/guarantees.md").read_text("utf-8")


def test_every_crash_point_fault_and_planted_bug_is_on_the_page() -> None:
    missing = [point.name for point in POINTS if f"`{point.name}`" not in PAGE]
    missing += [fault.value for fault in StoreFault if fault is not StoreFault.NONE and fault.value not in PAGE]
    missing += [fault.value for fault in SideFault if fault.value not in PAGE]
    missing += [bug for bug in EDITS | TENANT_EDITS if bug.replace("removal", "removal from `scheduled`") not in PAGE]

    assert missing == []
    assert f"RUNS={len(COMBINATIONS)}" in PAGE
