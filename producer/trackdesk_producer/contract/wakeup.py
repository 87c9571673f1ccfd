"""The wake-up: the Celery message that says there is work, and carries none.

The scripts push it themselves, as part of the transition that made the work, instead of through
``apply_async`` (933 µs a call, and not atomic with the record). Celery routes a direct queue through
the anonymous exchange, so a delivery is exactly ``LPUSH <queue> <envelope>``.
``tests/integration/test_wakeup.py`` holds the envelope against one a real ``apply_async`` made.
"""

import base64
import json

TASK_NAME = "trackdesk.deliver"
TAG = "@TAG@"
"""Placeholder the scripts replace by a number that is unique per push: kombu files unacknowledged
messages under it, so that two messages with one tag would become one."""

_BODY = base64.b64encode(
    json.dumps([[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()
).decode()


def envelope(queue: str) -> str:
    """Return the wake-up for `queue`, with `TAG` where the script puts its number."""
    return json.dumps(
        {
            "body": _BODY,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": TASK_NAME, "id": TAG},
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": TAG,
            },
        },
        separators=(",", ":"),
    )
