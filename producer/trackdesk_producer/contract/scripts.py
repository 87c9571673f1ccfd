"""Lua scripts, and the operations that call them: what to send and how to read the reply, without I/O.

A `ScriptCall` is pure. Two small shells run operations, one for redis-py's blocking client and one for its
asyncio client (`runner.py`), so that no behaviour exists twice.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

from trackdesk_producer.contract.keys import NAMES, lua_names
from trackdesk_producer.contract.record import lua_fields

T = TypeVar("T")

_KEY = re.compile(r"\bkey\('(\w+)'")
"""A key by its name; Redis gets what the name stands for, so that no script builds a table of names."""

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as Redis gets it."""

    name: str
    source: str
    sha: str


@cache
def load_script(package: str, name: str, *, allow_oom: bool, writes: bool = True) -> Script:
    """Read ``lua/<name>.lua`` of `package` and put in front what it uses of the shared prelude.

    Args:
        allow_oom: whether the script may write on a full Redis: finishing work may, accepting work may not.
        writes: whether it writes at all; one that does not runs on a replica too, and while the disk refuses writes.
    """
    shared = resources.files(__package__).joinpath("lua/shared.lua").read_text("utf-8")
    own = _code(resources.files(package).joinpath(f"lua/{name}.lua").read_text("utf-8"))
    flags = [name for name, holds in (("allow-oom", allow_oom), ("no-writes", not writes)) if holds]
    shebang = f"#!lua flags={','.join(flags)}" if flags else "#!lua"
    used = _used(_code(f"{lua_names()}\n{lua_fields()}\n{shared}"), own)
    source = _KEY.sub(lambda found: f"key('{NAMES[found[1]]}'", "\n".join([shebang, used, own]))
    # SHA-1 is how Redis names a script, not a safeguard.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _used(prelude: str, own: str) -> str:
    """Return those statements of the prelude that a script needs, in their order.

    Redis runs the whole script at every call, and thirty functions that nobody calls cost as much as the work of a
    single enqueue. A statement begins at the start of a line with ``local`` and ends before the next one.
    """
    statements = list(_statements(prelude))
    wanted = _words(own)
    kept: list[str] = []
    for names, statement in reversed(statements):  # what a statement uses stands before it
        if not names.isdisjoint(wanted):
            kept.append(statement)
            wanted |= _words(statement)
    return "\n".join(reversed(kept))


def _statements(prelude: str) -> Iterator[tuple[set[str], str]]:
    """Yield each top-level statement with the names it defines."""
    for statement in re.split(r"^(?=local )", prelude, flags=re.MULTILINE):
        function = re.match(r"local function (\w+)", statement)
        variables = re.match(r"local (\w+(?:, \w+)*)", statement)
        if function:
            yield {function[1]}, statement.rstrip()
        elif variables:
            yield set(variables[1].split(", ")), statement.rstrip()


def _code(text: str) -> str:
    """Return a script without the lines that are comments."""
    return "\n".join(line for line in text.splitlines() if line and not line.lstrip().startswith("--"))


def _words(code: str) -> set[str]:
    return set(re.findall(r"\w+", code))


@dataclass(frozen=True, slots=True)
class ScriptCall(Generic[T]):
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
