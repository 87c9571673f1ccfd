"""Constants that the scripts and the Python code share. The loader gives each script those that it names."""

NEWER = "newer"
"""The state that the scripts report for a job whose record a newer release wrote; only that release changes the job."""

FINGERPRINT_KEPT = 8
"""Characters of a fingerprint in a tombstone and in a content in doubt."""

CONTENTS_KEPT = 8
"""Contents in doubt that a record names at most. Already two can confirm nothing, so dropping more loses nothing."""

FORGOTTEN = "*"
"""Mark before a content in doubt: the store may have forgotten what was sent."""

OUTAGE = "outage"
"""The reason of a hold by the breaker."""

THROTTLED = "rate_limited"
"""The reason of a hold until a second job shows whether the tenant is over its rate limit."""

CLIMB_MS = 300_000
"""After a 429 the pace climbs from nothing to its full rate in this time."""

FIRST_WINDOW = 5
"""Requests in flight of a tenant that has not yet shown that it answers."""

OTHER_TYPES = "*"
"""The conversion type in a cause whose jobs have a type that is too long, or that came after too many others."""

REFERENCE_DIGITS = 20
"""Hexadecimal digits under which a person's cid or customerId is indexed; the id of the dead letter follows."""


def lua_constants(code: str) -> str:
    """Return the Lua statements that define the constants which `code` names."""
    used = [name for name in globals() if name.isupper() and name in code]
    return "\n".join(f"local {name} = {_literal(globals()[name])}" for name in used)


def _literal(value: str | int) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)
