"""Every reason of a dead letter, with what to do about it."""

from trackdesk_worker.domain.outcome import Reason
from trackdesk_worker.ops.remedies import REMEDIES

INTRODUCTION = """# Dead letter reasons

<!-- Generated from `worker/trackdesk_worker/ops/remedies.py` by `make reference`; do not edit. -->

Every attempt ends for one of these reasons. A dead letter is filed under the reason of its last attempt. The console,
`trackdesk dead` and the metrics use the same words.

| reason | what to do |
|---|---|
"""


def render() -> str:
    """Return the page."""
    return INTRODUCTION + "".join(f"| `{reason}` | {REMEDIES[reason]} |\n" for reason in Reason)
