"""Taking an answer apart: bytes from a stranger, so nothing here raises, and nothing odd passes for a value."""

import json
from codecs import BOM_UTF8
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, NoReturn

from trackdesk_worker.trackdesk.exchange import Answer
from trackdesk_worker.trackdesk.messages import Meaning, meaning_of

MAX_BRACKETS = 1_000
"""More objects and lists than any answer of Trackdesk holds."""

EXCERPT_CHARS = 512
CID_CHARS = 255

_GRPC_CODES = range(1, 17)
_RETRY_AFTER_DIGITS = 10


class ParsedAnswer(NamedTuple):
    """An answer's facts, as the signals of the answer table ask for them. A named tuple: one is built per answer.

    `is_page` says that the body does not even begin like a JSON object: a web server's own page or text.
    `cid` is a non-blank click id, else empty; `odd_cid` says that one was there but was not text.
    `code` is a gRPC error code, 1 to 16. `meaning` is set for answers outside 2xx only. `asks_to_wait` says that
    there is a Retry-After.
    """

    status: int
    is_empty: bool
    is_page: bool
    is_object: bool
    cid: str
    odd_cid: bool
    code: int | None
    has_message: bool
    meaning: Meaning | None
    asks_to_wait: bool

    @property
    def says_nothing(self) -> bool:
        """No body, or a JSON object without code and message."""
        return self.is_empty or (self.is_object and self.code is None and not self.has_message)

    @property
    def is_throttle(self) -> bool:
        """The answer is about pace."""
        return self.status == 429 or self.code == 8

    @property
    def is_conversion_limit(self) -> bool:
        """The sale was refused because a limit of conversions is reached, whatever the status or code says.

        A text that does not say what is limited speaks of pace if it comes with a throttle's own signs.
        """
        match self.meaning:
            case Meaning.CONVERSION_LIMIT:
                return True
            case Meaning.LIMIT_REACHED:
                return not (self.is_throttle and self.asks_to_wait)
            case Meaning.LIMIT_EXCEEDED:
                return not self.is_throttle
            case _:
                return False

    @property
    def is_unrouted(self) -> bool:
        """A 404 that a web server or gateway made up, not one of Trackdesk's business."""
        return self.status == 404 and (self.is_page or self.meaning is Meaning.NO_SUCH_ROUTE)


def parse_answer(answer: Answer) -> ParsedAnswer:
    """Return the facts of an answer. A body that was cut, or is not strict JSON, is no object."""
    start = answer.body.removeprefix(BOM_UTF8).lstrip()[:1]
    document = None if answer.truncated else _json_object(answer.body)
    fields: dict[str, Any] = document or {}
    cid, code, message = fields.get("cid"), fields.get("code"), fields.get("message")
    message = message.strip() if isinstance(message, str) else ""
    return ParsedAnswer(
        status=answer.status,
        is_empty=not answer.truncated and not start,
        is_page=start not in (b"", b"{"),
        is_object=document is not None,
        cid=printable(cid, limit=CID_CHARS).strip() if isinstance(cid, str) else "",
        odd_cid=cid is not None and not isinstance(cid, str),
        code=code if type(code) is int and code in _GRPC_CODES else None,
        has_message=bool(message),
        meaning=None if 200 <= answer.status < 300 else meaning_of(message),
        asks_to_wait=bool(answer.retry_after),
    )


def excerpt_of(body: bytes) -> str:
    """Return the beginning of a body as one printable line of at most `EXCERPT_CHARS` characters."""
    return printable(body.decode("utf-8", errors="replace"), limit=EXCERPT_CHARS)


def printable(text: str, *, limit: int) -> str:
    """Return `text` with white space folded, without control characters or surrogates, cut at `limit`."""
    folded = " ".join(text.split())
    if not folded.isprintable():
        folded = "".join(character for character in folded if character.isprintable())
    return folded[:limit]


def retry_after_s(header: str | None, *, now_ms: int) -> float | None:
    """Return the seconds a Retry-After header asks for (0 for a date gone by), or None if it is garbage.

    Not clamped: what is sane is the policy's to say.
    """
    value = (header or "").strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) <= _RETRY_AFTER_DIGITS else None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:  # RFC 9110: an HTTP date is always GMT
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.fromtimestamp(now_ms / 1000, UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _json_object(body: bytes) -> dict[str, Any] | None:
    """Parse strictly. Repeated names make two readers see two values, so they make the body unusable."""
    if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        return None  # how deep a parser follows differs between Python's versions; what an answer means must not
    try:
        document = _DECODER.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # ValueError: bad JSON, bad UTF-8, integers of thousands of digits
        return None
    return document if isinstance(document, dict) else None


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name is repeated")
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_names, parse_constant=_refuse_constant)
"""`json.loads` would make one for every answer."""
