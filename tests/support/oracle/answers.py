"""What may come back for a request, whatever Trackdesk made of it: every row of the answer table."""

import json
from dataclasses import dataclass

from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind

PAGE = b"<!doctype html><title>oops</title>"


@dataclass(frozen=True, slots=True)
class Episode:
    """What becomes of one claim.

    `answer` names an entry of `ANSWERS`; "" is what Trackdesk itself answers. `commit` says whether the request reached
    Trackdesk before the answer took the place of its own. `fate` is that of the claim: "" settles at once.
    """

    answer: str = ""
    commit: bool = True
    fate: str = ""


FATES = ("lost unsent", "lost sent", "settled late", "sent late", "settled twice", "released")
"""Of a claim: its process dies before or after the request, or hangs beyond the lease, or the store's reply is lost,
or the worker stops before it sends."""


def _error(status: int, code: int, message: str, *, retry_after: str | None = None) -> Answer:
    body = json.dumps({"code": code, "message": message, "details": []}).encode()
    return Answer(status, "application/json", retry_after, body)


def _page(status: int, *, retry_after: str | None = None) -> Answer:
    return Answer(status, "text/html", retry_after, PAGE)


def _silent(status: int) -> Answer:
    return Answer(status, "application/json", None, b"")


def _failure(kind: FailureKind, *, sent: bool) -> Failure:
    return Failure(kind, sent, "scripted")


UNSURE: dict[str, Answer | Failure] = {
    "500 code 13": _error(500, 13, "internal"),
    "500 page": _page(500),
    "502 page": _page(502),
    "503 page": _page(503),
    "503 retry after 20": _page(503, retry_after="20"),
    "504 code 4": _error(504, 4, "deadline exceeded"),
    "400 code 14": _error(400, 14, "unavailable"),
    "400 code 2": _error(400, 2, "unknown"),
    "408": _silent(408),
    "499 code 1": _error(499, 1, "cancelled"),
    "200 page": _page(200),
    "200 cut JSON": Answer(200, "application/json", None, b'{"cid": "7b0', truncated=True),
    "200 with a code": _error(200, 13, "internal"),
    "204": _silent(204),
    "302": _page(302),
    "600": _page(600),
    "timeout": _failure(FailureKind.TIMEOUT, sent=True),
    "connection lost": _failure(FailureKind.CONNECTION_LOST, sent=True),
    "protocol error": _failure(FailureKind.PROTOCOL_ERROR, sent=True),
    "crash, perhaps sent": _failure(FailureKind.CRASHED, sent=True),
    "tls error after sending": _failure(FailureKind.TLS_ERROR, sent=True),
}
"""May follow a commit or not."""

UNPAIRED: dict[str, Answer | Failure] = {
    "200 empty cid": Answer(200, "application/json", None, b'{"cid": ""}'),
    "200 {}": Answer(200, "application/json", None, b"{}"),
}
"""Follow a commit only."""

REFUSED: dict[str, Answer | Failure] = {
    "401 code 16": _error(401, 16, "invalid API key"),
    "401 page": _page(401),
    "403 code 7": _error(403, 7, "permission denied"),
    "403 page": _page(403),
    "400 code 7": _error(400, 7, "permission denied"),
    "429": _silent(429),
    "429 retry after 30": _page(429, retry_after="30"),
    "429 retry after a week": _page(429, retry_after="604800"),
    "400 code 8": _error(400, 8, "rate limit exceeded"),
    "429 code 8 limit reached": _error(429, 8, "conversion count limit reached"),
    "400 limit reached": _error(400, 9, "conversion limit reached"),
    "405": _page(405),
    "501 code 12": _error(501, 12, "Method Not Allowed"),
    "404 page": _page(404),
    "404 silent": _silent(404),
    "404 code 5 no text": _error(404, 5, ""),
    "409 code 10": _error(409, 10, "aborted"),
    "409 page": _page(409),
    "409 silent": _silent(409),
    "425": _silent(425),
    "400 silent": _silent(400),
    "422 page": _page(422),
    "type not found": _error(404, 5, "conversion type not found"),
    "type not configured": _error(400, 9, "conversion type not configured"),
    "pricing not configured": _error(400, 9, "pricing for conversion type not configured"),
    "amount missing": _error(400, 3, "missing conversion amount"),
    "offer not active": _error(400, 9, "offer not active"),
    "expired source": _error(400, 9, "expired source"),
    "currency not configured": _error(400, 9, "currency not configured"),
    "source blocked": _error(400, 9, "conversion source blocked"),
    "source not found": _error(404, 5, "conversion source not found"),
    "connect timeout": _failure(FailureKind.CONNECT_TIMEOUT, sent=False),
    "connect error": _failure(FailureKind.CONNECT_ERROR, sent=False),
    "dns error": _failure(FailureKind.DNS_ERROR, sent=False),
    "tls error": _failure(FailureKind.TLS_ERROR, sent=False),
    "crash before sending": _failure(FailureKind.CRASHED, sent=False),
    "unsendable": _failure(FailureKind.UNSENDABLE, sent=False),
}
"""Say that nothing was recorded, so nothing was."""

ANSWERS: dict[str, Answer | Failure] = {**UNSURE, **UNPAIRED, **REFUSED}
ALREADY_EXISTS = _error(409, 6, "conversion already exists")
ABOUT_THE_TENANT = frozenset(
    name for name in REFUSED if name.startswith(("401", "403", "429", "405", "501", "404 page", "400 code"))
)
"""Hold or freeze the tenant."""
ONE_JOB_ALONE = ("403 page", "401 code 16", "429", "429 retry after 30", "400 code 7", "429 code 8 limit reached")
"""Answers that a sale may get for ever while the others of its tenant succeed: a firewall rule, a limit."""


def may_commit(name: str) -> bool:
    """Whether Trackdesk may have recorded the conversion although this came back."""
    return name not in REFUSED


def must_commit(name: str) -> bool:
    """Whether this is only ever answered for a conversion that is recorded."""
    return name in UNPAIRED
