"""``python -m tests.tools.coverage_table FILE``: coverage's JSON report as a table, one row per package.

`make coverage` writes the report. A line is covered if a test executes it, a branch if a test takes it.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

DISTRIBUTIONS = {"trackdesk_producer", "trackdesk_worker", "trackdesk_simulator"}


def package(file: str) -> str:
    """Return the package of a file: its distribution, and the first folder below that."""
    parts = PurePosixPath(file).parts
    top = next(index for index, part in enumerate(parts) if part in DISTRIBUTIONS)
    return "/".join(parts[top : min(top + 2, len(parts) - 1)])


def table(report: Mapping[str, Any]) -> str:
    """Return the rows of all packages, and the sum."""
    packages: dict[str, Counter[str]] = defaultdict(Counter)
    for file, measured in report["files"].items():
        packages[package(file)].update(
            {name: count for name, count in measured["summary"].items() if isinstance(count, int)}
        )
    rows = [_row(name, sums) for name, sums in sorted(packages.items())]
    total = sum(packages.values(), Counter[str]())
    head = ["| package | lines | covered | branches | covered |", "|---|--:|--:|--:|--:|"]
    return "\n".join([*head, *rows, _row("all", total)])


def _row(name: str, sums: Mapping[str, int]) -> str:
    lines, branches = sums["num_statements"], sums["num_branches"]
    covered_lines, covered_branches = sums["covered_lines"], sums["covered_branches"]
    return f"| {name} | {lines} | {_share(covered_lines, lines)} | {branches} | {_share(covered_branches, branches)} |"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.tools.coverage_table FILE\n")
        return 2
    print(table(json.loads(Path(arguments[0]).read_text("utf-8"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
