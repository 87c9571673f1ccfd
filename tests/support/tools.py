"""Programs of other projects that check or run what is in deploy/. A missing one skips here and fails in CI."""

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Return the path of a program."""
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing: .ci/run has to install it")
        pytest.skip(f"{name} is not installed here; CI runs this with it")
    return found
