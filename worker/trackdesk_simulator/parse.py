"""Reads a conversion as loosely as a gRPC gateway does.

Unknown fields and unknown status names vanish silently (a misspelt status becomes the default, Approved),
null and "" mean absent, and a number where a string belongs is refused. Typos are the sender's to catch.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from urllib.parse import parse_qsl

STATUS_PREFIX: Final = "CONVERSION_STATUS_"
DEFAULT_STATUS: Final = "CONVERSION_STATUS_APPROVED"
STATUSES: Final = frozenset(
    STATUS_PREFIX + name
    for name in (
        "APPROVED",
        "FRAUD",
        "NOT_ALLOWED",
        "BLOCKED",
        "ON_HOLD",
        "PENDING",
        "REFUNDED",
        "REJECTED",
        "TEST",
        "QUALITY_CONTROL",
    )
)
MAX_QUERY_FIELDS: Final = 200
MAX_ID_LENGTH: Final = 255
MAX_AMOUNT_LENGTH: Final = 64


class UnreadableError(ValueError):
    """The request is no conversion; the message is what the gateway would say (INVALID_ARGUMENT)."""


@dataclass(frozen=True, slots=True)
class ParsedConversion:
    """What the request says, after dropping what a gateway drops. An absent text is ""."""

    type_code: str
    cid: str
    external_cid: str
    external_client_id: str
    amount: Decimal | None
    currency: str
    external_id: str
    customer_id: str
    custom_params: tuple[tuple[str, str], ...]
    status: str
    created_at: datetime | None
    coupon_codes: tuple[str, ...]
    revenue_origin_id: str
    qualified: bool | None


def parse_body(body: bytes) -> ParsedConversion:
    """Read a POST body. Raises UnreadableError."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"syntax error: {type(error).__name__}") from error
    if not isinstance(data, dict):
        raise UnreadableError("syntax error: unexpected token, an object is expected")
    amount = _object(data, "amount")
    currency = _object(data, "currency")
    custom = _object(data, "customParams")
    codes = data.get("couponCodes") or []
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise UnreadableError("invalid value for repeated string field couponCodes")
    qualified = data.get("qualified")
    if qualified is not None and not isinstance(qualified, bool):
        raise UnreadableError("invalid value for bool field qualified")
    return _build(
        lambda name: _text(data, name),
        amount=_text(amount, "value", "amount.value") if amount else "",
        currency=_text(currency, "code", "currency.code") if currency else "",
        custom_params=_custom_params(custom) if custom else (),
        coupon_codes=tuple(codes),
        qualified=qualified,
    )


def parse_query(query: str) -> ParsedConversion:
    """Read a GET query string with dotted names. Raises UnreadableError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise UnreadableError("the query string cannot be read") from error
    fields: dict[str, str] = {}
    codes: list[str] = []
    for name, value in pairs:
        if name == "couponCodes":
            codes.append(value)
        elif name in fields and name in _SINGLE:
            raise UnreadableError(f'too many values for field "{name}"')
        else:
            fields[name] = value

    def text(name: str) -> str:
        return fields.get(name, "")

    params = ((f"advS{i}", text(f"customParams.advS{i}")) for i in range(1, 6))
    return _build(
        text,
        amount=text("amount.value"),
        currency=text("currency.code"),
        custom_params=tuple((name, value) for name, value in params if value),
        coupon_codes=tuple(codes),
        qualified=_query_bool(fields.get("qualified")),
    )


_SINGLE: Final = frozenset(
    {
        "conversionTypeCode",
        "cid",
        "externalCid",
        "externalClientId",
        "amount.value",
        "currency.code",
        "externalId",
        "customerId",
        "status",
        "createdAt",
        "revenueOriginId",
        "qualified",
        *(f"customParams.advS{i}" for i in range(1, 6)),
    }
)
FIELDS: Final = _SINGLE | {"couponCodes"}
"""Every field of a conversion, by the guide's dotted name."""


def _build(
    text: Callable[[str], str],
    *,
    amount: str,
    currency: str,
    custom_params: tuple[tuple[str, str], ...],
    coupon_codes: tuple[str, ...],
    qualified: bool | None,
) -> ParsedConversion:
    status = text("status")
    parsed = ParsedConversion(
        type_code=text("conversionTypeCode"),
        cid=text("cid"),
        external_cid=text("externalCid"),
        external_client_id=text("externalClientId"),
        amount=_amount(amount),
        currency=currency,
        external_id=text("externalId"),
        customer_id=text("customerId"),
        custom_params=custom_params,
        status=status if status in STATUSES else DEFAULT_STATUS,
        created_at=_moment(text("createdAt")),
        coupon_codes=coupon_codes,
        revenue_origin_id=text("revenueOriginId"),
        qualified=qualified,
    )
    for name, value in (("externalId", parsed.external_id), ("customerId", parsed.customer_id)):
        if len(value) > MAX_ID_LENGTH:
            raise UnreadableError(f"{name} is longer than {MAX_ID_LENGTH} characters")
    return parsed


def _text(data: Mapping[str, Any], name: str, path: str | None = None) -> str:
    value = data.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableError(f"invalid value for string field {path or name}: {json.dumps(value)[:64]}")
    return value


def _object(data: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    value = data.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise UnreadableError(f"syntax error: unexpected token for {name}, an object is expected")


def _custom_params(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    pairs = ((name, _text(data, name, f"customParams.{name}")) for name in (f"advS{i}" for i in range(1, 6)))
    return tuple((name, value) for name, value in pairs if value)


def _amount(text: str) -> Decimal | None:
    if not text:
        return None
    try:
        amount = Decimal(text) if len(text) <= MAX_AMOUNT_LENGTH else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise UnreadableError("invalid amount.value")
    return amount


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnreadableError("invalid value for Timestamp field createdAt") from error
    if moment.tzinfo is None or "T" not in text.upper():
        raise UnreadableError("invalid value for Timestamp field createdAt")
    return moment


def _query_bool(text: str | None) -> bool | None:
    if not text:
        return None
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise UnreadableError("invalid value for bool field qualified")
