"""The smoke share of the crash matrix; `make chaos SEED=1 RUNS=585` meets every combination once."""

from pathlib import Path

import pytest

from tests.support.crash_matrix import run_matrix
from tests.support.crash_points import POINTS
from tests.support.matrix_plan import COMBINATIONS, plan

pytestmark = [pytest.mark.chaos, pytest.mark.system]

SMOKE = (6, 13, 14, 18, 20, 24, 26, 34, 38, 39, 42, 406)
"""Died in: claim, a wake-up, a decision, promote (twice), before the log, maintenance, plan, maintenance, import, a
wake-up, settle; with the store half open, out of memory in the middle of a call, reset, without power, failed over,
killed, -MISCONF, -LOADING, scriptless, -BUSY, its clock wrong; two of them with a log that cannot be written, one with
a sale that Trackdesk always refuses.
"""


@pytest.mark.timeout(300)
def test_whatever_process_dies_and_whatever_fault_the_store_has_no_sale_is_lost_or_paid_twice(tmp_path: Path) -> None:
    verdicts = run_matrix(SMOKE, tmp_path, beside=4)

    assert not {str(v.plan): v.problems for v in verdicts if not v.ok}
    assert sum(v.crashed for v in verdicts) >= len(SMOKE) - 2, "processes came to their crash points"


def test_as_many_neighbouring_seeds_as_there_are_combinations_meet_each_once() -> None:
    met = {(p.point, p.store_fault) for p in map(plan, range(7, 7 + len(COMBINATIONS)))}

    assert met == set(COMBINATIONS)
    assert len({point.name for point in POINTS}) >= 15
