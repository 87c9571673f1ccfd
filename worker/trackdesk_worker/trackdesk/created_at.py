"""The policy "late": a delivery that comes long after the sale tells Trackdesk when the sale was.

Without `createdAt` Trackdesk takes the time of arrival, which may lie in another month, or beyond the
attribution window, than the sale.
"""

import json
from datetime import UTC, datetime

from trackdesk_producer.contract.wire import instant

LATE_AFTER_S = 300.0

_FIELDS_AFTER = ("couponCodes", "revenueOriginId", "qualified")
"""What follows `createdAt` in the guide's order of fields."""


def dated(body: bytes, *, accepted_ms: int, now_ms: int, after_s: float = LATE_AFTER_S) -> bytes:
    """Return the POST body with `createdAt` = the time of acceptance, if it has none and `after_s` have passed.

    The time is UTC in whole seconds, rounded down, so it always lies in the past. Every try of a job gets the
    same value. A body that is not a JSON object is returned as it is: it is not for this function to judge.
    """
    if now_ms - accepted_ms <= after_s * 1000:
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
