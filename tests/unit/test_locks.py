"""What is locked is what runs: an environment made from requirements.lock alone has everything that gets imported."""

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def locked(file: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / file).read_text("utf-8"), re.MULTILINE))


def test_what_kombu_imports_for_redis_is_locked_for_production() -> None:
    # Found when the image ran for the first time: only the developers' environment had `packaging`.
    required = importlib.metadata.requires("kombu") or []
    names = {re.split(r"[^\w-]", line)[0].lower() for line in required if 'extra == "redis"' in line}
    assert names
    assert names <= locked("requirements.lock")


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_pins_everything_by_hash_and_names_no_index(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) == len(locked(file))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert "index-url" not in text
