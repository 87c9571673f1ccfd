"""Turning the transport's exceptions into failures, above all: may the request have reached Trackdesk?

The exception types do not show it. The transport raises `ConnectError` for a connection reset after the request
was sent, and `ConnectTimeout` for an answer that never came. What shows it is the chain of causes in pyreqwest's
details: only an error whose chain names the connect stage happened before a byte of the request left.
Whatever is not recognised counts as sent: it is repeated either way, and the externalId makes that safe.
tests/integration/test_trackdesk_client_failures.py pins each text against a real server.
"""

import re

import httpx
from pyreqwest.exceptions import (
    BuilderError,
    DecodeError,
    DetailedPyreqwestError,
    PoolTimeoutError,
    PyreqwestError,
)

from trackdesk_worker.trackdesk.exchange import Failure, FailureKind

DETAIL_CHARS = 200

TROUBLE = (httpx.HTTPError, PyreqwestError, OSError)
"""What an exchange may raise for reasons outside this program; `TimeoutError` is an `OSError`."""

_CONNECT_STAGE = "client error (Connect)"
_TCP_ERROR = "tcp connect error"
_DNS_ERROR = "dns error"
_TIMEOUTS = frozenset({"operation timed out", "deadline has elapsed"})
_PROXY_ERROR = re.compile(r"\b(?:proxy|tunnel|socks)\b")
_CUT_SHORT = re.compile(r"end of file before|connection (?:reset|closed)|broken pipe|unexpected eof|close_notify")
_ADDRESS = re.compile(r"\bfor url \(")


def failure_of(error: Exception) -> Failure:
    """Return the failure that an exception of the transport means."""
    root = error.__cause__ if isinstance(error.__cause__, PyreqwestError) else error
    causes = _causes_of(root)
    detail = (": ".join(causes[-2:]) or type(error).__name__)[:DETAIL_CHARS]
    if isinstance(root, BuilderError):
        return Failure(FailureKind.UNSENDABLE, sent=False, detail=detail)
    if isinstance(root, PoolTimeoutError):
        return Failure(FailureKind.CONNECT_TIMEOUT, sent=False, detail="no free connection in time")
    if _CONNECT_STAGE in causes:
        return Failure(_connect_kind(causes), sent=False, detail=detail)
    if isinstance(error, TimeoutError | httpx.TimeoutException) or isinstance(root, TimeoutError):
        return Failure(FailureKind.TIMEOUT, sent=True, detail=detail)
    if isinstance(root, DecodeError) and not any(map(_CUT_SHORT.search, causes)):
        return Failure(FailureKind.PROTOCOL_ERROR, sent=True, detail=detail)
    if isinstance(error, httpx.NetworkError | httpx.DecodingError | OSError):
        return Failure(FailureKind.CONNECTION_LOST, sent=True, detail=detail)
    return Failure(FailureKind.PROTOCOL_ERROR, sent=True, detail=detail)


def _connect_kind(causes: list[str]) -> FailureKind:
    if any(cause in _TIMEOUTS for cause in causes):
        return FailureKind.CONNECT_TIMEOUT
    if _DNS_ERROR in causes:
        return FailureKind.DNS_ERROR
    if _TCP_ERROR in causes or any(map(_PROXY_ERROR.search, causes)):
        return FailureKind.CONNECT_ERROR
    return FailureKind.TLS_ERROR  # after the name and the TCP connection, only the handshake is left


def _causes_of(error: BaseException) -> list[str]:
    """Return the texts of the causes, but none that quotes the address: a query holds personal data."""
    if not isinstance(error, DetailedPyreqwestError):
        return []
    texts = [cause["message"] for cause in error.details["causes"] or []]
    return [text for text in texts if not _ADDRESS.search(text)]
