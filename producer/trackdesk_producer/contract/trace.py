"""The trace context that a job carries, so that its attempts belong to the trace in which the sale was made."""

import re
from typing import Final

NO_TRACE: Final = "-"
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 00. Other versions may be longer: a record holds nothing of unknown length."""


def sound_trace(value: str) -> str:
    """Return a W3C ``traceparent`` as it is, and `NO_TRACE` for anything else: a trace is never worth an error."""
    return value if _TRACEPARENT.fullmatch(value) else NO_TRACE


def trace_id_of(trace: str) -> str | None:
    """Return the trace id of a record's trace, or None if it has none that is sound."""
    return None if sound_trace(trace) == NO_TRACE else trace[3:35]
