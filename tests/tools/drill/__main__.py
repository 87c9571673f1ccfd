"""``python -m tests.tools.drill``: break each thing an alert is for, see it fire, repair it, see it resolve.

Real processes of the product, a real Prometheus and Alertmanager with the committed rules in a hurry
(`tests/tools/drill/quick_rules.py`), and a receiver of notifications. Prints a table; exits 1 if an alert did not fire,
did not resolve, or was not notified.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.support.promql import rules
from tests.support.waiting import wait_until
from tests.tools.drill.runner import drill, table
from tests.tools.drill.scenarios import SCENARIOS
from tests.tools.drill.stack import stack

FACTOR = 60.0


def main() -> int:
    """Run the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="part of a scenario's name; all by default")
    parser.add_argument("--factor", type=float, default=FACTOR, help="what durations are divided by")
    chosen = parser.parse_args()
    scenarios = [s for s in SCENARIOS if not chosen.scenario or any(part in s.name for part in chosen.scenario)]
    directory = Path(tempfile.mkdtemp(prefix="trackdesk-drill-"))
    began = time.monotonic()
    try:
        with stack(directory, factor=chosen.factor) as (running, _):
            running.replica.start()
            wait_until(lambda: running.client.info("replication")["connected_slaves"] == 1, "a replica")
            rows = drill(running, scenarios)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(table(rows))
    missing = {rule["alert"] for rule in rules() if "alert" in rule} - {row.alert for row in rows}
    if not chosen.scenario and missing:
        print(f"without a scenario: {', '.join(sorted(missing))}")
    wrong = [row for row in rows if row.wrong]
    print(f"{len(rows) - len(wrong)} of {len(rows)} fired and resolved, {time.monotonic() - began:.0f} s")
    return 1 if wrong or (missing and not chosen.scenario) else 0


if __name__ == "__main__":
    sys.exit(main())
