"""From a search form to a search, and back to an address. Customers and clicks never stand in an address."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

from trackdesk_producer.contract.record import State
from trackdesk_producer.conversion.rules import AMOUNT_PATTERN
from trackdesk_worker.console.auth import Refused, RequestContext
from trackdesk_worker.ops.dead_letters.search import Order, Search
from trackdesk_worker.ops.timestamps import iso, parse_age_s, parse_moment

ANY = "any"
MAX_TEXT = 2048
IN_ADDRESS = (
    "tenant", "state", "reason", "type", "status", "external_id", "currency", "min", "max", "since", "until", "order"
)  # fmt: skip
CARRIED = "filter_"
PERSONAL = ("cid", "customer_id")
_UTC = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")


@dataclass(frozen=True, slots=True)
class Filter:
    """A search as it was asked for, and as it is understood."""

    given: Mapping[str, str]
    """What was typed, by the names of the form; without personal data."""
    search: Search

    def value(self, name: str) -> str:
        """Return what was typed for a field."""
        return self.given.get(name, "")

    @property
    def fixed(self) -> dict[str, str]:
        """The same for an address that still means the same later: ages are moments."""
        times = {"since": self.search.since_ms, "until": self.search.until_ms}
        return {**self.given, **{name: iso(at_ms) for name, at_ms in times.items() if at_ms is not None}}


def read_filter(given: Mapping[str, str], *, now_ms: int, default_state: State | None = State.DEAD) -> Filter:
    """Read a form's fields; unknown ones do not count.

    Raises:
        Refused: a field cannot be meant so; the sentence names it.
    """
    told = {name: given[name].strip() for name in (*IN_ADDRESS, *PERSONAL) if given.get(name, "").strip()}
    for name, value in told.items():
        if len(value) > MAX_TEXT:
            raise Refused(400, f"{name} is too long")
    state = told.get("state")
    if state is not None and state not in (ANY, *State):
        raise Refused(400, f"state is one of any, {', '.join(State)}")
    order = told.get("order", "newest")
    if order not in get_args(Order):
        raise Refused(400, f"order is one of {', '.join(get_args(Order))}")
    search = Search(
        tenant=told.get("tenant"),
        state=default_state if state is None else None if state == ANY else State(state),
        reason=told.get("reason"),
        conversion_type=told.get("type"),
        http_status=_status(told.get("status")),
        external_id=told.get("external_id"),
        cid=told.get("cid"),
        customer_id=told.get("customer_id"),
        currency=None if "currency" not in told else told["currency"].upper(),
        min_amount=_amount("the smallest amount", told.get("min")),
        max_amount=_amount("the largest amount", told.get("max")),
        since_ms=_moment("from", told.get("since"), now_ms),
        until_ms=_moment("until", told.get("until"), now_ms),
        order=order,  # type: ignore[arg-type] # checked above
    )
    return Filter({name: value for name, value in told.items() if name in IN_ADDRESS}, search)


def carried(request: RequestContext) -> dict[str, str]:
    """Return the filter that a form carries beside its own fields, of which one is a reason too."""
    return {name.removeprefix(CARRIED): value for name, value in request.form.items() if name.startswith(CARRIED)}


def in_address(request: RequestContext) -> dict[str, str]:
    """Return what an address asks for; a click or customer counts in a form alone."""
    return {name: value for name, value in request.query.items() if name not in PERSONAL}


def _status(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-5]\d\d", text, re.ASCII):
        raise Refused(400, "the HTTP status is a number from 100 to 599")
    return int(text)


def _amount(label: str, text: str | None) -> Decimal | None:
    if text is None:
        return None
    if not re.fullmatch(AMOUNT_PATTERN, text):
        raise Refused(400, f"{label} is a number such as 100 or 100.50")
    return Decimal(text)


def _moment(label: str, text: str | None, now_ms: int) -> int | None:
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
        raise Refused(400, f"{label}: write a time in UTC as 2026-01-31 18:30, or an age as 30m, 2h or 7d") from error
