"""Parses and formats times: ages such as ``2h``, RFC 3339 times."""

import re
from datetime import UTC, datetime

_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(s|m|h|d|w)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def parse_age_s(text: str) -> float:
    """Return the seconds of an age such as ``90s``, ``30m``, ``2h``, ``7d`` or ``1w``.

    Raises:
        ValueError: the message says how to write one.
    """
    found = _AGE.fullmatch(text.strip())
    if not found:
        raise ValueError("write an age as a number and a unit: 90s, 30m, 2h, 7d or 1w")
    return float(found[1]) * _SECONDS[found[2]]


def parse_moment(text: str) -> datetime:
    """Return an RFC 3339 time.

    Raises:
        ValueError: the message says how to write one.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("write a time with its UTC offset: 2026-01-31T18:30:00Z or 2026-01-31T19:30:00+01:00")


def iso(at_ms: int) -> str:
    """Return Unix milliseconds as RFC 3339 in UTC; for programs."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def readable_moment(at_ms: int) -> str:
    """Return Unix milliseconds for people, to the second, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def readable_age(seconds: float) -> str:
    """Return a duration by its two largest units: ``3 h 12 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    parts: list[str] = []
    rest = int(seconds)
    for name, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {name}")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 "))
