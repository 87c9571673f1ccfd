"""Mutants of the store's scripts and of the policy, and whether the tests notice: ``python -m tests.tools.mutation``.

Each mutant is one small change to a copy of the sources; it is killed if a test fails on it. Survivors are listed, to
be read: some change nothing that can be seen (an order among equals, a shortcut), the others want a test.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[2]
LUA_AT = ROOT / "worker/trackdesk_worker/store/lua"
POLICY = ROOT / "worker/trackdesk_worker/domain/policy.py"
LIMIT_S = 180
STORE = "tests/integration/test_store_"
MACHINE = "tests/property/test_quick_state_machine.py"
DEAD = "tests/integration/test_plans.py"
QUICK_MACHINE = """
import redis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.test_planted_bugs import FEW
from tests.property.test_store_state_machine import StoreMachine


def test_quick(servers, server):
    with redis.Redis(port=server.port) as client:
        run_state_machine_as_test(lambda: StoreMachine(client), settings=settings(FEW, max_examples=40))
"""
"""The state machine with few, always the same, examples: a mutant must not live or die by chance."""
TESTS = {
    "settle": (f"{STORE}settle.py", f"{STORE}breaker.py", f"{STORE}window.py", MACHINE),
    "claim": (f"{STORE}claim.py", f"{STORE}window.py", f"{STORE}breaker.py", MACHINE),
    "reclaim": (f"{STORE}maintenance.py", MACHINE),
    "promote": (f"{STORE}maintenance.py", MACHINE),
    "prune": (f"{STORE}maintenance.py", MACHINE),
    "wake": (f"{STORE}maintenance.py", MACHINE),
    "plan_list": (DEAD, MACHINE),
    "plan_step": (f"{STORE}redrive.py", DEAD, MACHINE),
    "plan_transition": (DEAD,),
    "edit": ("tests/integration/test_dead_letter_edit.py", MACHINE),
    "tenant": (f"{STORE}claim.py", f"{STORE}breaker.py", MACHINE),
    "policy": ("tests/unit/domain", "tests/property/test_policy_properties.py"),
}
"""The scripts that move jobs, and the policy, with the tests nearest to each first: most mutants die early."""
LUA = [LUA_AT / f"{name}.lua" for name in TESTS if name != POLICY.stem]
SWAPS = (
    (r" == ", " ~= "),
    (r" ~= ", " == "),
    (r" < ", " <= "),
    (r" <= ", " < "),
    (r" > ", " >= "),
    (r" >= ", " > "),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" and ", " or "),
    (r" or ", " and "),
    (r"\bnot ", ""),
    (r"\btrue\b", "false"),
    (r"math\.max", "math.min"),
    (r"math\.min", "math.max"),
    (r"'1'", "'0'"),
    (r"'0'", "'1'"),
    (r", -1\)", ", 1)"),
    (r", 1\)", ", -1)"),
)
PYTHON_SWAPS = (
    (r" == ", " != "),
    (r"\bmax\(", "min("),
    (r" \* ", " / "),
    (r"=True", "=False"),
    (r"=False", "=True"),
    (r" \+ 1", " + 2"),
)
STATEMENT = re.compile(r"^\s+(redis\.call\(|close_books|queue_turn|leave\(|to_\w+\(|count\(|note\(|book\(|learn)")


@dataclass(frozen=True)
class Mutant:
    """One change: a line of a file, before and after."""

    file: Path
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file.name}:{self.line}: {self.before.strip()} -> {self.after.strip() or '(gone)'}"


def mutants() -> list[Mutant]:
    """Return every mutant of every file."""
    return [mutant for file in (*LUA, POLICY) for mutant in _of(file)]


def _of(file: Path) -> Iterator[Mutant]:
    lua = file.suffix == ".lua"
    comment = "--" if lua else "#"
    swaps = [s for s in SWAPS if lua or ("math" not in s[0] and "~=" not in s[0] + s[1] and "'" not in s[0])]
    in_docstring = False
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        quotes = line.count('"""')
        if in_docstring or quotes:
            in_docstring ^= quotes == 1
            continue
        code = line.split(comment)[0]
        if not code.strip() or code.startswith(("import ", "from ", "@")) or "error_reply" in code:
            continue
        for pattern, new in swaps if lua else (*swaps, *PYTHON_SWAPS):
            for hit in re.finditer(pattern, code):
                yield Mutant(file, number, line, line[: hit.start()] + new + line[hit.end() :])
        if lua and STATEMENT.match(code) and code.count("(") == code.count(")"):
            yield Mutant(file, number, line, "")


def killed(mutant: Mutant, copy: Path) -> bool:
    """Run the tests on the mutant, in a copy of the sources that is put right again after."""
    target = copy / mutant.file.relative_to(ROOT)
    original = target.read_text("utf-8")
    lines = original.split("\n")
    lines[mutant.line - 1] = mutant.after
    target.write_text("\n".join(lines), "utf-8")
    try:
        return not _pass(TESTS[mutant.file.stem], copy)
    except subprocess.TimeoutExpired:
        return True  # it no longer ends: noticed
    finally:
        target.write_text(original, "utf-8")


def _pass(tests: Iterable[str], copy: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-k", "not redis"]
    done = subprocess.run(
        [*command, *tests],
        cwd=copy,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(copy / part) for part in ("producer", "worker", "."))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=LIMIT_S,
    )
    return done.returncode == 0


def main() -> int:
    """Run from the command line."""
    arguments = argparse.ArgumentParser(description="Change the code in small ways and see whether the tests notice.")
    arguments.add_argument("--most", type=int, default=10_000, help="try a sample of so many mutants")
    arguments.add_argument("--seed", type=int, default=1, help="of the sample")
    arguments.add_argument("--beside", type=int, default=os.cpu_count() or 2)
    arguments.add_argument("--within-s", type=float, default=36_000, help="begin no mutant later than this")
    given = arguments.parse_args()
    every = mutants()
    chosen = random.Random(given.seed).sample(every, min(given.most, len(every)))
    deadline = time.monotonic() + given.within_s
    copies: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory:
        for number in range(given.beside):
            copy = Path(directory) / str(number)
            for part in ("producer", "worker", "tests"):
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
            (copy / MACHINE).write_text(QUICK_MACHINE, "utf-8")
            copies.put(copy)

        copy = copies.get()
        if not _pass(sorted({test for mutant in chosen for test in TESTS[mutant.file.stem]}), copy):
            print("the tests fail without any change", file=sys.stderr)
            return 1
        copies.put(copy)

        def one(mutant: Mutant) -> tuple[Mutant, bool] | None:
            if time.monotonic() > deadline:
                return None
            copy = copies.get()
            try:
                dead = killed(mutant, copy)
            finally:
                copies.put(copy)
            print("killed  " if dead else "SURVIVED", mutant, flush=True)
            return mutant, dead

        pool = ThreadPoolExecutor(given.beside)
        try:
            tried = [found for found in pool.map(one, chosen) if found is not None]
        finally:
            pool.shutdown(cancel_futures=True)
    dead = sum(was_killed for _, was_killed in tried)
    print(json.dumps({"mutants": len(every), "tried": len(tried), "killed": dead}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
