"""Tools that check the files in deploy/: a missing one skips here, with the reason, and fails in CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tool(name: str, where: str = "Debian's package of that name") -> str:
    """Return the path of a program, of the tests' own environment first; `where` says what to install."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing: .ci/run has to install it ({where})")
        pytest.skip(f"{name} is not installed here ({where}); CI checks with it")
    return found


def run(*command: str | Path, cwd: Path = ROOT, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [str(part) for part in command],
        check=False,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        input=stdin,
    )
