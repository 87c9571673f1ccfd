"""Turns pydantic's errors into sentences that name field, rule and remedy, and no value."""

import re
from collections.abc import Callable, Iterable
from typing import Final

from pydantic_core import ErrorDetails

from trackdesk_producer.conversion.names import CUSTOM_PARAM_NAMES, WIRE_NAMES, ConversionStatus
from trackdesk_producer.conversion.rules import PLACEHOLDERS, placeholder_problem, shape
from trackdesk_producer.errors import Problem

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AMOUNT_RULE = "must be text of digits with an optional fraction, at most 15 before the point and 9 after it"
_STATUSES = tuple(status.value for status in ConversionStatus)


def explain(errors: Iterable[ErrorDetails]) -> list[Problem]:
    """Return one problem for each error of the model, in its order."""
    return [_problem(error) for error in errors]


def _problem(error: ErrorDetails) -> Problem:
    name, *inner = error["loc"]
    field = WIRE_NAMES[str(name)]
    value = error["input"]
    if name == "custom_params" and inner:
        field = f"{field}.{CUSTOM_PARAM_NAMES[str(inner[0])]}"
    elif name == "coupon_codes" and inner:
        field = f"{field}[{inner[0]}]"
    if isinstance(value, str) and value in PLACEHOLDERS:
        return placeholder_problem(field)
    if name == "amount":
        return _amount(field, value)
    if name == "status":
        return _status(field, value)
    if name == "qualified":
        return Problem(field, f"must be true or false (got {shape(value)})", "write true or false without quotes")
    kind = error["type"]
    if kind in _TEXT:
        return _TEXT[kind](field, value, error)
    return Problem(field, f"must have the form of Trackdesk's guide (got {shape(value)})", "compare it with the guide")


def _amount(field: str, value: object) -> Problem:
    if isinstance(value, str):
        remedy = "write it like 100.50: no sign, no thousands mark, no currency, a point before the fraction"
    else:
        remedy = 'write it as text, "amount": "100.50", because a float never touches money'
    return Problem(field, f"{_AMOUNT_RULE} (got {shape(value)})", remedy)


def _status(field: str, value: object) -> Problem:
    rule = f"must be one of Trackdesk's statuses (got {shape(value)})"
    if value == "CONVERSION_STATUS_UNSPECIFIED":
        return Problem(field, "must say something, and UNSPECIFIED does not", "leave the status out")
    plain = re.sub(r"[\s-]+", "_", value.strip().upper()) if isinstance(value, str) and len(value) < 64 else ""
    full = plain if plain.startswith("CONVERSION_STATUS_") else f"CONVERSION_STATUS_{plain}"
    if full in _STATUSES:
        return Problem(field, rule, f"write {full}")
    return Problem(field, rule, f"write one of {', '.join(_STATUSES)}")


def _not_text(field: str, value: object, _error: ErrorDetails) -> Problem:
    return Problem(field, f"must be text (got {shape(value)})", "write it as text, in quotes")


def _not_unicode(field: str, value: object, _error: ErrorDetails) -> Problem:
    rule = f"must be valid Unicode, without lone surrogates (got {shape(value)})"
    return Problem(field, rule, "decode the text with the encoding it was written in")


def _missing(field: str, _value: object, _error: ErrorDetails) -> Problem:
    return Problem(field, "must be given", "add it, such as sale or lead")


def _too_long(field: str, value: object, error: ErrorDetails) -> Problem:
    limit = error["ctx"]["max_length"]
    return Problem(field, f"must have at most {limit} characters (got {shape(value)})", "shorten it")


def _blank(field: str, value: object, _error: ErrorDetails) -> Problem:
    return Problem(field, f"must not be blank (got {shape(value)})", "fill it, or leave it out if it is optional")


def _pattern(field: str, value: object, error: ErrorDetails) -> Problem:
    control = _CONTROL.search(str(value))
    if control is None:
        return _blank(field, value, error)
    rule = f"must not contain control characters (got one at position {control.start() + 1} of {shape(value)})"
    return Problem(field, rule, "remove line breaks, tabs and other invisible characters")


_TEXT: Final[dict[str, Callable[[str, object, ErrorDetails], Problem]]] = {
    "string_type": _not_text,
    "string_unicode": _not_unicode,
    "missing": _missing,
    "string_too_long": _too_long,
    "string_too_short": _blank,
    "string_pattern_mismatch": _pattern,
}
"""What each of pydantic's error types for text means in our words."""
