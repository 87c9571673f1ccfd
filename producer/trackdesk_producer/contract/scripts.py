"""Lua scripts, and calls of them: what to send and how to read the reply, without I/O.

A `ScriptCall` is pure. Two small shells run calls, one for redis-py's blocking client and one for its asyncio client
(`runner.py`), so that no behaviour exists twice.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Generic, TypeVar

from trackdesk_producer.contract.constants import lua_constants
from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import lua_values

T_co = TypeVar("T_co", covariant=True)

_KEY = re.compile(r"\bkey\('(\w+)'")
_KEY_NAME = re.compile(r"\bNAMES\.(\w+)")
"""Keys by their name in `keys.NAMES`; the loader inserts the key's text, so that no script builds a table."""
_VALUE = re.compile(r"@([a-z_]+)@")
"""A list of `record.lua_values`."""
_USES = re.compile(r"^-- uses: (\w+(?:, \w+)*)$", re.MULTILINE)

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as Redis gets it."""

    name: str
    source: str
    sha: str


@cache
def load_script(package: str, name: str, *, allow_oom: bool, writes: bool = True) -> Script:
    """Read ``lua/<name>.lua`` of `package`, with the library files that it uses before it.

    A comment line ``-- uses: records, ledger`` names files of ``contract/lua/lib``; a library file may name others.

    Args:
        allow_oom: whether the script may write on a full Redis: finishing work may, accepting work may not.
        writes: whether it writes at all; one that does not runs on a replica too, and while the disk refuses writes.
    """
    own = resources.files(package).joinpath(f"lua/{name}.lua").read_text("utf-8")
    flags = [name for name, holds in (("allow-oom", allow_oom), ("no-writes", not writes)) if holds]
    shebang = f"#!lua flags={','.join(flags)}" if flags else "#!lua"
    parts: dict[str, str] = {}
    _collect("base", parts)
    for used in _uses(own):
        _collect(used, parts)
    code = "\n".join([*parts.values(), _code(own)])
    code = _KEY.sub(lambda found: f"key('{NAMES[found[1]]}'", code)
    code = _KEY_NAME.sub(lambda found: f"'{NAMES[found[1]]}'", code)
    source = "\n".join([shebang, lua_constants(code), code])
    # SHA-1 is how Redis names a script, not a safeguard.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _collect(name: str, parts: dict[str, str]) -> None:
    """Add the library file `name` to `parts`, after those that it uses."""
    if name not in parts:
        content = resources.files(__package__).joinpath(f"lua/lib/{name}.lua").read_text("utf-8")
        for used in _uses(content):
            _collect(used, parts)
        values = lua_values()
        parts[name] = _VALUE.sub(lambda found: values[found[1]], _code(content))


def _uses(content: str) -> list[str]:
    found = _USES.search(content)
    return found[1].split(", ") if found else []


def _code(content: str) -> str:
    """Return a script without the lines that are comments: Redis stores and hashes what it gets."""
    return "\n".join(line for line in content.splitlines() if line and not line.lstrip().startswith("--"))


@dataclass(frozen=True, slots=True)
class ScriptCall(Generic[T_co]):
    """One call of one script."""

    script: Script
    prefix: str
    arguments: tuple[Argument, ...]
    read: Callable[[Any], T_co]
    """Turns Redis' reply into the result."""


def clock(now_ms: int | None) -> Argument:
    """Return the scripts' first argument: an explicit now, or Redis' own clock."""
    return "" if now_ms is None else now_ms


def text(reply: bytes | str) -> str:
    """Return a reply's string, whichever way the client decodes."""
    return reply.decode() if isinstance(reply, bytes) else reply
