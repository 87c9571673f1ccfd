"""Lua scripts, and the operations that call them: what to send and how to read the reply, without I/O.

An `Operation` is pure. Two small shells run operations, one for redis-py's blocking client and one for its
asyncio client (`runner.py`), so that no behaviour exists twice.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

from .job import lua_fields
from .keys import lua_names

T = TypeVar("T")

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as Redis gets it."""

    name: str
    source: str
    sha: str


@cache
def load_script(package: str, name: str, *, allow_oom: bool) -> Script:
    """Read ``lua/<name>.lua`` of `package` and put the shared prelude in front.

    Args:
        allow_oom: whether the script may write on a full Redis: finishing work may, accepting work may not.
    """
    shared = resources.files(__package__).joinpath("lua/shared.lua").read_text("utf-8")
    own = resources.files(package).joinpath(f"lua/{name}.lua").read_text("utf-8")
    shebang = "#!lua flags=allow-oom" if allow_oom else "#!lua"
    source = "\n".join([shebang, lua_names(), lua_fields(), shared, own])
    # SHA-1 is how Redis names a script, not a safeguard.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """One call of one script."""

    script: Script
    prefix: str
    arguments: tuple[Argument, ...]
    read: Callable[[Any], T]
    """Turns Redis' reply into the result."""


def clock(now_ms: int | None) -> Argument:
    """Return the scripts' first argument: an explicit now, or Redis' own clock."""
    return "" if now_ms is None else now_ms


def text(reply: bytes | str) -> str:
    """Return a reply's string, whichever way the client decodes."""
    return reply.decode() if isinstance(reply, bytes) else reply
