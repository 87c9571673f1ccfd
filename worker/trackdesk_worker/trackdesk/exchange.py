"""What one HTTP exchange with Trackdesk left behind: an answer, or a failure to get one."""

from dataclasses import dataclass, field
from enum import StrEnum


class FailureKind(StrEnum):
    """Where an exchange broke."""

    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_ERROR = "connect_error"
    DNS_ERROR = "dns_error"
    TLS_ERROR = "tls_error"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    PROTOCOL_ERROR = "protocol_error"
    NO_ADDRESS = "no_address"  # the tenant's settings name no address that a request could go to
    CRASHED = "crashed"  # an error of this program
    UNSENDABLE = "unsendable"  # the stored body is not one this worker can put into a request


class NotSent(Exception):
    """An error of this program before any byte of the request left; its cause is the error itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer whose head arrived. `body` is bounded; `truncated` says that more was sent, or lost.

    The API key never appears in `body`, even if the server echoes it.
    """

    status: int
    content_type: str
    retry_after: str | None
    body: bytes = field(repr=False)
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer. `sent` is False only when it is certain that no byte of the request reached Trackdesk.

    `detail` is one line for people; it holds no address, no query and no body.
    """

    kind: FailureKind
    sent: bool
    detail: str
