"""Reads the fields of a filter, as text, into a search; for the command line, the pages and the API."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

from trackdesk_producer.contract.record import State
from trackdesk_producer.conversion.rules import AMOUNT_PATTERN
from trackdesk_worker.ops.dead_letters.search import SearchInvalid
from trackdesk_worker.ops.timestamps import parse_age_s, parse_moment
from trackdesk_worker.store.dead_letters.query import Order, Search

ANY_STATE = "any"
MAX_TEXT = 2048
PERSONAL_FIELDS = ("cid", "customer_id")
FIELDS = (
    "tenant", "state", "reason", "type", "status", "external_id", "currency", "min", "max", "since", "until", "order",
    *PERSONAL_FIELDS,
)  # fmt: skip
_UTC = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")


class FilterInvalid(SearchInvalid):
    """A field that cannot be read."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
        """What to write instead."""


def filter_fields(given: Mapping[str, str]) -> dict[str, str]:
    """Return the non-empty fields of a filter, without surrounding white space; unknown ones are ignored."""
    return {name: given[name].strip() for name in FIELDS if given.get(name, "").strip()}


def search_of(given: Mapping[str, str], *, now_ms: int) -> Search:
    """Return the search for the given fields; an absent or empty one matches all, an absent state is dead.

    Args:
        now_ms: what ages count from.

    Raises:
        FilterInvalid: a field cannot be read.
    """
    fields = filter_fields(given)
    for name, value in fields.items():
        if len(value) > MAX_TEXT:
            raise FilterInvalid(name, f"write at most {MAX_TEXT} characters")
    state = _one_of("state", fields.get("state", State.DEAD), (ANY_STATE, *State))
    return Search(
        tenant=fields.get("tenant"),
        state=None if state == ANY_STATE else State(state),
        reason=fields.get("reason"),
        conversion_type=fields.get("type"),
        http_status=_status(fields.get("status")),
        external_id=fields.get("external_id"),
        cid=fields.get("cid"),
        customer_id=fields.get("customer_id"),
        currency=fields["currency"].upper() if "currency" in fields else None,
        min_amount=_amount("min", fields.get("min")),
        max_amount=_amount("max", fields.get("max")),
        since_ms=_moment("since", fields.get("since"), now_ms),
        until_ms=_moment("until", fields.get("until"), now_ms),
        order=_one_of("order", fields.get("order", "newest"), get_args(Order)),  # type: ignore[arg-type] # is checked
    )


def _one_of(field: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise FilterInvalid(field, f"write one of {', '.join(choices)}")
    return text


def _status(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-5]\d\d", text, re.ASCII):
        raise FilterInvalid("status", "write a number from 100 to 599")
    return int(text)


def _amount(field: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    if not re.fullmatch(AMOUNT_PATTERN, text):
        raise FilterInvalid(field, "write an amount without a currency, such as 100 or 100.50")
    return Decimal(text)


def _moment(field: str, text: str | None, now_ms: int) -> int | None:
    """Read a time in UTC, a full RFC 3339 one, or an age."""
    if text is None:
        return None
    try:
        if _UTC.fullmatch(text):
            return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)
        if "-" in text:
            return round(parse_moment(text).timestamp() * 1000)
        return now_ms - round(parse_age_s(text) * 1000)
    except (ValueError, OverflowError) as error:
        raise FilterInvalid(field, "write a time in UTC as 2026-01-31 18:30, or an age as 30m, 2h or 7d") from error
