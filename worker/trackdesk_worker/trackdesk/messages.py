"""What Trackdesk's error texts mean. The texts are those of its error log; the API's may differ, so they are
matched loosely: any case, any wording around the telling words. The order is that of the answer table; the
first match wins.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

MATCHED_CHARS = 1_000
"""Only this much of a message is matched: a hostile text must not cost more than microseconds."""


class Meaning(StrEnum):
    """The meanings the answer table knows."""

    CONVERSION_LIMIT = "conversion_limit"
    LIMIT_REACHED = "limit_reached"  # of what is not said: of pace if the answer says when to come back
    LIMIT_EXCEEDED = "limit_exceeded"  # of what is not said: of pace if the status or code is that of a throttle
    ALREADY_EXISTS = "already_exists"
    SOURCE_NOT_FOUND = "source_not_found"
    TYPE_NOT_FOUND = "type_not_found"
    PRICING_NOT_CONFIGURED = "pricing_not_configured"
    TYPE_NOT_CONFIGURED = "type_not_configured"
    AMOUNT_MISSING = "amount_missing"
    OFFER_NOT_ACTIVE = "offer_not_active"
    SOURCE_EXPIRED = "source_expired"
    CURRENCY_NOT_CONFIGURED = "currency_not_configured"
    SOURCE_BLOCKED = "source_blocked"
    NO_SUCH_ROUTE = "no_such_route"


@dataclass(frozen=True, slots=True)
class _Pattern:
    meaning: Meaning
    telling: re.Pattern[str]
    unless: re.Pattern[str] | None = None


def _pattern(meaning: Meaning, telling: str, *, unless: str | None = None) -> _Pattern:
    return _Pattern(meaning, re.compile(telling), re.compile(unless) if unless else None)


_PACE = r"\b(?:rate|requests?|calls?|throttl\w*|too many|per (?:second|sec|minute|min|hour))\b"
_PACE_OR_PLAN = rf"{_PACE}|\b(?:quota|api|plan|subscription|account|per (?:day|month))\b"
_OF_CONVERSIONS = r"\bconversions?(?: count)? limit\b|\blimit (?:of|for|on) (?:\w+ )?conversions?\b"

_PATTERNS: tuple[_Pattern, ...] = (
    _pattern(Meaning.CONVERSION_LIMIT, rf"^(?=.*(?:{_OF_CONVERSIONS})).*\b(?:reached|exceeded)\b", unless=_PACE),
    _pattern(Meaning.LIMIT_REACHED, r"\blimit\b.*\breached\b|\breached\b.*\blimit\b", unless=_PACE_OR_PLAN),
    _pattern(Meaning.LIMIT_EXCEEDED, r"\blimit\b.*\bexceeded\b|\bexceeded\b.*\blimit\b", unless=_PACE_OR_PLAN),
    _pattern(Meaning.ALREADY_EXISTS, r"\balready exist(?:s|ed)?\b"),
    _pattern(
        Meaning.SOURCE_NOT_FOUND,
        r"\b(?:source|click|cid|with the client)\b.*\bnot found\b",
        unless=r"\btype\b",
    ),
    _pattern(Meaning.TYPE_NOT_FOUND, r"\btype\b.*\bnot found\b"),
    # before TYPE_NOT_CONFIGURED: "pricing for conversion type not configured" holds the other text
    _pattern(Meaning.PRICING_NOT_CONFIGURED, r"\bpricing\b.*\bnot (?:configured|found)\b"),
    _pattern(Meaning.TYPE_NOT_CONFIGURED, r"\btype\b.*\bnot configured\b"),
    _pattern(Meaning.AMOUNT_MISSING, r"\bmissing\b.*\bamount\b|\bamount\b.*\b(?:missing|required)\b"),
    _pattern(Meaning.OFFER_NOT_ACTIVE, r"\boffer\b.*\b(?:not active|inactive)\b"),
    _pattern(Meaning.SOURCE_EXPIRED, r"\bexpired\b.*\bsource\b|\b(?:source|click)\b.*\bexpired\b"),
    _pattern(Meaning.CURRENCY_NOT_CONFIGURED, r"\bcurrency\b.*\bnot (?:configured|supported|allowed|found)\b"),
    _pattern(
        Meaning.SOURCE_BLOCKED,
        r"\b(?:source|click|affiliate|offer|conversion)\b.*\bblocked\b"
        r"|\bblocked (?:conversion |traffic )?(?:source|click|affiliate|offer)\b",
        unless=r"\bip\b",  # a firewall speaks of the sender, not of the click
    ),
    _pattern(Meaning.NO_SUCH_ROUTE, r"^not found\.?$|^cannot (?:get|post) /|\bno route matched\b"),
)


def meaning_of(message: str) -> Meaning | None:
    """Return what an error text means, or None if it is not one of those known."""
    if not message:
        return None
    text = " ".join(message[:MATCHED_CHARS].lower().split())
    for pattern in _PATTERNS:
        if pattern.telling.search(text) and not (pattern.unless and pattern.unless.search(text)):
            return pattern.meaning
    return None
