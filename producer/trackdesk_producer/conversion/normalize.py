"""Brings what callers give (POST body, Python names, GET query) into one flat form for validation."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

from trackdesk_producer.conversion.fields import CustomParams
from trackdesk_producer.conversion.names import (
    BODY_NAMES,
    CUSTOM_PARAM_NAMES,
    FIELD_OF_BODY_KEY,
    FIELD_OF_QUERY_NAME,
    PARAM_OF_BODY_KEY,
    PARAM_OF_QUERY_NAME,
    QUERY_NAMES,
    WIRE_NAMES,
)
from trackdesk_producer.conversion.rules import MAX_COUPON_CODES, shape
from trackdesk_producer.errors import Problem

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NAMEABLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_NUMBERED_PARAM = re.compile(r"(customParams\.)?adv_?s\d+", re.IGNORECASE | re.ASCII)
_SMALL_ENOUGH_TO_HINT: Final = 20


@dataclass(slots=True)
class Normalized:
    """Input in flat form: the values by Python name, and what was refused on the way.

    ``faulty`` names the fields that were given but are missing from ``fields`` because of a problem.
    """

    fields: dict[str, object] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    faulty: set[str] = field(default_factory=set)

    def refuse(self, name: str, problem: Problem) -> None:
        """Note a problem with a field that was given."""
        self.problems.append(problem)
        self.faulty.add(name)


def normalize_body(data: Mapping[Any, Any], into: Normalized | None = None) -> Normalized:
    """Arrange the guide's POST body, the Python names, or any mix of the two."""
    normalized = Normalized() if into is None else into
    fields = normalized.fields
    for key, value in data.items():
        name = FIELD_OF_BODY_KEY.get(key)
        if name is None:
            normalized.problems.append(_unknown(key, BODY_NAMES, _BODY_HINTS, len(data)))
            continue
        if value is None or (name == "customer_id" and value == ""):  # shops send "" for a guest's order
            continue
        if name in fields or name in normalized.faulty:
            normalized.refuse(name, Problem(WIRE_NAMES[name], "must be given once", "keep one of its two spellings"))
            continue
        if name in _UNWRAP:
            value = _UNWRAP[name](value, normalized)
            if value is None:
                continue
        fields[name] = value
    return normalized


def normalize_query(params: Mapping[Any, Any]) -> Normalized:
    """Arrange the guide's GET names, as a query or a CSV row has them; an empty value counts as absent."""
    normalized = Normalized()
    body: dict[Any, Any] = {}
    custom: dict[Any, Any] = {}
    for key, given in params.items():
        values = [value for value in (given if isinstance(given, list) else [given]) if value not in ("", None)]
        if not values:
            continue
        name = FIELD_OF_QUERY_NAME.get(key, FIELD_OF_BODY_KEY.get(key))
        target = body
        if key in PARAM_OF_QUERY_NAME:
            name, target = PARAM_OF_QUERY_NAME[key], custom
        if name is None or name == "custom_params":
            normalized.problems.append(_unknown(key, QUERY_NAMES, _QUERY_HINTS, len(params)))
        elif name == "coupon_codes":
            body[name] = values
        elif len(values) > 1 or name in target:
            target.pop(name, None)
            field_name = WIRE_NAMES.get(name, str(key))
            normalized.refuse(name, Problem(field_name, "must be given once", "send one value for this name"))
        elif name == "qualified":
            flag = {"true": True, "false": False}.get(str(values[0]).lower())
            if flag is None:
                rule = f"must be true or false (got {shape(values[0])})"
                normalized.refuse(name, Problem("qualified", rule, "write true or false"))
            else:
                body[name] = flag
        else:
            target[name] = values[0]
    if custom:
        body["custom_params"] = custom
    return normalize_body(body, normalized)


def _unwrap_money(name: str, inner: str) -> Callable[[object, Normalized], object]:
    def unwrap(value: object, normalized: Normalized) -> object:
        if isinstance(value, str) or not isinstance(value, Mapping):
            return value
        for key in value:
            if key != inner:
                problem = _unknown(key, (inner,), {}, len(value), inside=f"{inside}.")
                normalized.refuse(name, problem)
        if inner not in value:
            rule = "must be given when its object is"
            normalized.refuse(name, Problem(WIRE_NAMES[name], rule, f"add it, or leave {inside} out"))
        return None if name in normalized.faulty else value[inner]

    inside = WIRE_NAMES[name].partition(".")[0]
    return unwrap


def _unwrap_custom_params(value: object, normalized: Normalized) -> object:
    if isinstance(value, CustomParams):
        value = dict(value.items())
    elif not isinstance(value, Mapping):
        rule = f"must be an object with the keys advS1 to advS5 (got {shape(value)})"
        remedy = 'write "customParams": {"advS1": "text"}'
        normalized.refuse("custom_params", Problem("customParams", rule, remedy))
        return None
    params: dict[str, object] = {}
    for key, text in value.items():
        name = PARAM_OF_BODY_KEY.get(key)
        if name is None:
            problem = _unknown(key, CUSTOM_PARAM_NAMES.values(), {}, len(value), inside="customParams.")
            normalized.problems.append(problem)
        elif text is None or text == "":
            continue
        elif name in params:
            rule, remedy = "must be given once", "keep one of its two spellings"
            normalized.problems.append(Problem(f"customParams.{CUSTOM_PARAM_NAMES[name]}", rule, remedy))
        else:
            params[name] = text
    return params or None


def _unwrap_created_at(value: object, normalized: Normalized) -> object:
    moment = None
    if isinstance(value, str):
        moment = read_rfc3339(value)
    elif isinstance(value, datetime) and value.utcoffset() is not None:
        try:
            moment = value.astimezone(UTC)
        except (ValueError, OverflowError):  # a year that UTC cannot hold
            moment = None
    if moment is None:
        rule = f"must be an RFC 3339 time with its UTC offset (got {shape(value)})"
        remedy = "write it like 2026-01-31T18:30:00Z or 2026-01-31T19:30:00+01:00"
        normalized.refuse("created_at", Problem("createdAt", rule, remedy))
    return moment


def read_rfc3339(text: str) -> datetime | None:
    """Return the time in UTC, or None if the text is none of RFC 3339 with its offset."""
    if not _RFC_3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # February 30th; or a year that UTC cannot hold
        return None


def _unwrap_coupon_codes(value: object, normalized: Normalized) -> object:
    if isinstance(value, list | tuple) and len(value) <= MAX_COUPON_CODES:
        return tuple(value) or None
    rule = f"must be a list of at most {MAX_COUPON_CODES} texts (got {shape(value)})"
    normalized.refuse("coupon_codes", Problem("couponCodes", rule, 'write "couponCodes": ["CODE"]'))
    return None


_UNWRAP: Final[dict[str, Callable[[object, Normalized], object]]] = {
    "amount": _unwrap_money("amount", "value"),
    "currency": _unwrap_money("currency", "code"),
    "custom_params": _unwrap_custom_params,
    "created_at": _unwrap_created_at,
    "coupon_codes": _unwrap_coupon_codes,
}
"""Fields that come in more than one form, each with what brings it into its own; None means absent."""

_BODY_HINTS: Final = {
    "amount.value": 'in a body, write "amount": {"value": "100.50"}',
    "currency.code": 'in a body, write "currency": {"code": "EUR"}',
    **{
        name: f'in a body, write "customParams": {{"{wire}": "text"}}'
        for wire in CUSTOM_PARAM_NAMES.values()
        for name in (wire, f"customParams.{wire}")
    },
}
_QUERY_HINTS: Final = {wire: f"write customParams.{wire}" for wire in CUSTOM_PARAM_NAMES.values()}


def _unknown(key: object, known: Iterable[str], hints: Mapping[str, str], among: int, *, inside: str = "") -> Problem:
    """Return the problem of a key that no field has, with the name that was probably intended."""
    if not isinstance(key, str) or not _NAMEABLE.fullmatch(key):
        # A key that does not look like a name may be data, so it is not repeated.
        where = inside.rstrip(".") or "conversion"
        remedy = "use only the names of Trackdesk's guide"
        return Problem(where, f"must not have a key that no field has (got {shape(key)})", remedy)
    rule = "is not a field of a conversion"
    if key in hints:
        return Problem(inside + key, rule, hints[key])
    if _NUMBERED_PARAM.fullmatch(key):
        return Problem(inside + key, rule, "use advS1 to advS5, there are no others")
    wires = {name.lower(): name for name in known}
    meant = None
    if among <= _SMALL_ENOUGH_TO_HINT:  # a search costs much more than a check, and junk has many keys
        wanted = re.sub(r"[_.-]", "", key.lower())
        found = get_close_matches(wanted, wires, n=1, cutoff=0.75)
        meant = wires[found[0]] if found else None
    if meant is None:
        names = ", ".join(wires.values())
        return Problem(inside + key, rule, f"leave it out; the names are {names}")
    return Problem(inside + key, rule, f"did you mean {inside}{meant}?")
