"""When a delivery sends Trackdesk the time of the sale.

Without `createdAt` Trackdesk takes the time of arrival, which may lie in another month, or beyond the attribution
window, than the sale.
"""

import json
from datetime import UTC, datetime
from enum import StrEnum

from trackdesk_producer.conversion.wire import instant

LATE_AFTER_S = 300.0

_FIELDS_AFTER = ("couponCodes", "revenueOriginId", "qualified")
"""What follows `createdAt` in the guide's order of fields."""


class CreatedAt(StrEnum):
    """When a body without `createdAt` gets one: the time of acceptance."""

    LATE = "late"
    """When the delivery comes more than five minutes after the sale, so that a late sale is dated right."""
    ALWAYS = "always"
    NEVER = "never"


def dated(
    body: bytes, *, accepted_ms: int, now_ms: int, policy: CreatedAt = CreatedAt.LATE, after_s: float = LATE_AFTER_S
) -> bytes:
    """Return the POST body, with `createdAt` if `policy` asks for it and the body has none.

    The time is UTC in whole seconds, rounded down, so it is always in the past. Every try of a job gets the
    same value. A body that is not a JSON object is returned as it is: it is not for this function to judge.
    """
    late = now_ms - accepted_ms > after_s * 1000
    if policy is CreatedAt.NEVER or (policy is CreatedAt.LATE and not late):
        return body
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict) or "createdAt" in fields:
        return body
    after = {name: fields.pop(name) for name in _FIELDS_AFTER if name in fields}
    fields["createdAt"] = instant(datetime.fromtimestamp(accepted_ms // 1000, UTC))
    text = json.dumps(fields | after, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")  # half a surrogate pair goes out escaped, as it came in
