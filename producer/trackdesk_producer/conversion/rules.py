"""The rules a conversion must keep before it becomes a job, as data and pure functions.

The limits marked "ours" are not Trackdesk's, which does not publish them: they are generous, and they keep
a job small and its books exact.
"""

import re
from collections.abc import Container, Mapping
from datetime import datetime, timedelta
from typing import Final

from trackdesk_producer.conversion.currencies import MINOR_UNITS
from trackdesk_producer.conversion.names import WIRE_NAMES
from trackdesk_producer.errors import ConversionInvalid, Problem

MAX_ID_LENGTH: Final = 255
"""Characters of externalId and customerId; Trackdesk's own limit."""
MAX_TEXT_LENGTH: Final = 1024
"""Characters of every other text: conversion type, click ids, advS1 to advS5, coupon codes, origin. Ours."""
MAX_COUPON_CODES: Final = 50
"""Coupon codes of one conversion. Ours."""
MAX_BODY_BYTES: Final = 16 * 1024
"""Bytes of a whole POST body, with the externalId. Ours."""
CLOCK_SKEW_S: Final = 60
"""How far ahead of our clock createdAt may be. Ours: a database's clock may run ahead of the shop's, and
Trackdesk refusing such a sale leaves a dead letter to redrive, while refusing it here would lose it."""

AMOUNT_PATTERN: Final = r"^[0-9]{1,15}(\.[0-9]{1,9})?$"
"""At most 15 digits before the point and 9 after it: sums of that size stay exact in the books."""
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""No control characters (C0, DEL, C1)."""
NON_BLANK_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
"""The same, with at least one character that is not white space."""

PLACEHOLDERS: Final = frozenset(
    {"OUR_CID", "AMOUNT_PLACEHOLDER", "SELECTED_CONVERSION_TYPE", "YOUR_TENANT_ID", "{cid}"}
)
"""Values of the guide that a caller must replace with their own."""

CLOCK_SKEW = timedelta(seconds=CLOCK_SKEW_S)
_CLICK_IDS = ("cid", "external_cid", "external_client_id")
_MAY_HOLD_PLACEHOLDER = (
    "conversion_type_code", *_CLICK_IDS, "external_id", "customer_id", "revenue_origin_id",
)  # fmt: skip
_NEEDS_ORIGIN = ("external_cid", "external_client_id", "coupon_codes")
_TENANT = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def relations(fields: Mapping[str, object], faulty: Container[str], now: datetime) -> list[Problem]:
    """Return the broken rules that a type, a length and a pattern cannot express.

    Args:
        fields: the fields given, by Python name; those not in ``faulty`` have their final types.
        faulty: fields already refused; they count as given, and their values are not looked at.
        now: what createdAt is compared with; an aware time.
    """
    problems = []

    click_ids = [name for name in _CLICK_IDS if name in fields or name in faulty]
    if len(click_ids) != 1:
        problems.append(_click_id_problem(click_ids))
    if "revenue_origin_id" not in fields and "revenue_origin_id" not in faulty:
        needing = [WIRE_NAMES[name] for name in _NEEDS_ORIGIN if name in fields or name in faulty]
        if needing:
            problems.append(
                Problem(
                    "revenueOriginId",
                    f"must be given with {' and '.join(needing)}",
                    "add the id of the revenue origin that the sale belongs to",
                )
            )

    problems += [
        placeholder_problem(WIRE_NAMES[name])
        for name in _MAY_HOLD_PLACEHOLDER
        if name not in faulty and fields.get(name) in PLACEHOLDERS
    ]
    cid = fields.get("cid")
    if isinstance(cid, str) and "cid" not in faulty and cid not in PLACEHOLDERS and is_whole_cookie(cid):
        problems.append(
            Problem(
                "cid",
                f"must be the click id alone, not the whole cookie (got {shape(cid)})",
                "decode the cookie as JSON and send only its cid",
            )
        )

    currency = fields.get("currency")
    if isinstance(currency, str) and currency not in MINOR_UNITS and "currency" not in faulty:
        problems.append(_currency_problem(currency))
    created_at = fields.get("created_at")
    if isinstance(created_at, datetime) and created_at > now + CLOCK_SKEW:
        ahead_s = int((created_at - now).total_seconds())
        problems.append(
            Problem(
                "createdAt",
                f"must not be in the future (it is {ahead_s} seconds ahead of this machine's clock)",
                "send the time of the sale with its true UTC offset, and check the clocks",
            )
        )
    return problems


def warnings_about(cid: str | None, amount: str | None, currency: str | None) -> tuple[str, ...]:
    """Return a sentence for each thing that is allowed but looks like a mistake."""
    said = []
    if cid is not None and not _UUID.fullmatch(cid):
        said.append("cid does not look like a UUID, as Trackdesk's click ids do")
    if amount is not None and currency is None:
        said.append("amount.value is given without currency.code: Trackdesk takes the tenant's default currency")
    if currency is not None and amount is None:
        said.append("currency.code is given without amount.value and means nothing")
    if amount is not None and not amount.strip("0."):
        said.append("amount.value is zero")
    if amount is not None and currency is not None:
        decimals = len(amount.partition(".")[2])
        if decimals > MINOR_UNITS[currency]:
            said.append(f"amount.value has {decimals} decimals, but {currency} has {MINOR_UNITS[currency]}")
    return tuple(said)


def check_tenant(tenant: object) -> str:
    """Return the tenant if it is one lower-case DNS label, so that it can name no other host.

    Raises:
        ConversionInvalid: with the one problem, for the field ``tenant``.
    """
    if isinstance(tenant, str):
        if tenant in PLACEHOLDERS:
            raise ConversionInvalid([placeholder_problem("tenant")])
        if _TENANT.fullmatch(tenant):
            return tenant
    raise ConversionInvalid(
        [
            Problem(
                "tenant",
                "must be one lower-case DNS label: 1 to 63 letters a-z, digits and inner hyphens "
                f"(got {shape(tenant)})",
                "give only the part before .trackdesk.com, such as my-shop",
            )
        ]
    )


def check_namespace(namespace: object) -> str:
    """Return the namespace if its characters are safe inside a Redis key's hash tag.

    Raises:
        ConversionInvalid: with the one problem, for the field ``namespace``.
    """
    if isinstance(namespace, str) and _NAMESPACE.fullmatch(namespace):
        return namespace
    raise ConversionInvalid(
        [
            Problem(
                "namespace",
                f"must be 1 to 64 letters, digits, '_', '.' and '-' (got {shape(namespace)})",
                "choose a plain name, such as trackdesk",
            )
        ]
    )


def shape(value: object) -> str:
    """Describe a value by type and length, never by content."""
    match value:
        case None:
            return "nothing"
        case str():
            return f"text of {_counted(len(value), 'character')}"
        case bool():
            return "a boolean"
        case int():
            return "a whole number"
        case float():
            return "a floating-point number"
        case datetime():
            return "a time without offset" if value.utcoffset() is None else "a time"
        case list() | tuple():
            return f"a list of {_counted(len(value), 'entry', 'entries')}"
        case Mapping():
            return f"an object of {_counted(len(value), 'key')}"
        case _:
            return f"a value of type {type(value).__name__}"


def placeholder_problem(field: str) -> Problem:
    """Return the problem of a value that was copied from the guide."""
    return Problem(field, "must not be the guide's placeholder", "replace the placeholder with this sale's own value")


def is_whole_cookie(cid: str) -> bool:
    """Return whether a cid is Trackdesk's cookie, plain or percent-encoded, instead of the id inside it."""
    return cid.lstrip()[:3].lower().startswith(("{", "%7b"))


def _click_id_problem(given: list[str]) -> Problem:
    if not given:
        return Problem(
            "cid",
            "must be given, or externalCid or externalClientId instead of it",
            "send the click id that the landing page stored for this visitor",
        )
    first, *others = (WIRE_NAMES[name] for name in given)
    return Problem(
        first,
        f"must be the only click id, but {' and '.join(others)} came with it",
        "keep exactly one of cid, externalCid and externalClientId",
    )


def _currency_problem(currency: str) -> Problem:
    plain = currency.strip().upper()
    return Problem(
        "currency.code",
        f"must be an ISO 4217 currency code in upper case (got {shape(currency)})",
        f"write {plain}" if plain in MINOR_UNITS else "use a code such as EUR, or leave the currency out",
    )


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
