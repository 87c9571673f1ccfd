"""Processor time and memory of other processes, without a dependency: /proc, and ``ps`` where there is none."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_PS_MEMORY_UNIT = 1024


class UsageUnknown(Exception):
    """This machine does not report what a process used."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group of processes used so far."""

    cpu_s: float
    """User and system time, of ended children too. Resolution: 10 ms with /proc."""
    resident: int
    """Bytes in memory now."""


def group_usage(group: int) -> Usage:
    """Return what the process group used: a process started with ``start_new_session`` and what it started."""
    return groups_usage([group])


def groups_usage(groups: Iterable[int]) -> Usage:
    """Return what several process groups used together."""
    wanted = frozenset(groups)
    return _from_proc(wanted) if (PROC / "self/stat").exists() else _from_ps(wanted)


def peak_resident(pid: int) -> int:
    """Return the most memory one process had so far, in bytes; without /proc what it has now. 0 once it ended."""
    status = PROC / str(pid) / "status"
    if not (PROC / "self/stat").exists():
        return _from_ps(frozenset([pid])).resident
    try:
        lines = status.read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _from_proc(groups: frozenset[int]) -> Usage:
    tick_s, page = 1 / os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    ticks = pages = 0
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # Behind the name, which may hold blanks and brackets: state, parent, group, …
            words = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(words[2]) in groups:
            ticks += sum(int(word) for word in words[11:15])
            pages += int(words[21])
    return Usage(ticks * tick_s, pages * page)


def _from_ps(groups: frozenset[int]) -> Usage:
    try:
        listed = subprocess.run(
            ["ps", "-A", "-o", "pgid=,time=,rss="],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageUnknown("neither /proc nor ps reports what a process used") from error
    cpu_s, resident = 0.0, 0
    for line in listed.splitlines():
        group, time, memory = line.split()
        if int(group) in groups:
            cpu_s += _seconds(time)
            resident += int(memory) * _PS_MEMORY_UNIT
    return Usage(cpu_s, resident)


def _seconds(time: str) -> float:
    """Read ps' [[days-]hours:]minutes:seconds."""
    days, _, rest = time.rpartition("-")
    seconds = 0.0
    for part in rest.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + (int(days) * 86_400 if days else 0)
