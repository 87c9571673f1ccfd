"""The strict profile: refuses what a gateway drops or accepts loosely, because the real Trackdesk may do so.

How strict it is nobody documents; a sender whose sales pass here passes under both.
"""

import json
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from trackdesk_producer.conversion.currencies import MINOR_UNITS
from trackdesk_simulator.parse import FIELDS, STATUSES, UnreadableError

AMOUNT: Final = re.compile(r"[0-9]{1,15}(?:\.([0-9]+))?", re.ASCII)
TYPE_FIELD: Final = "conversionTypeCode"
IDS: Final = (TYPE_FIELD, "cid", "externalCid", "externalClientId", "externalId", "customerId", "revenueOriginId")


def fields_of_body(body: bytes) -> dict[str, str]:
    """Return a readable POST body by the guide's dotted names; what is no text is left to `parse_body`."""
    found: dict[str, str] = {}
    for name, value in json.loads(body).items():
        for inner, text in value.items() if isinstance(value, dict) else (("", value),):
            if text is not None:
                found[f"{name}.{inner}" if inner else name] = text if isinstance(text, str) else ""
    return found


def fields_of_query(query: str) -> dict[str, str]:
    """Return a readable query string by the guide's dotted names."""
    return dict(parse_qsl(query, keep_blank_values=True))


def check_strictly(fields: Mapping[str, str]) -> None:
    """Raise UnreadableError for an unknown field or enum name, an odd amount or currency, or a blank id."""
    for name in fields:
        if name not in FIELDS:
            raise UnreadableError(f'unknown field "{name}"')
    for name in IDS:
        text = fields.get(name, "")
        if text != text.strip() or any(not character.isprintable() for character in text):
            raise UnreadableError(f"invalid value for {name}: blanks or control characters")
        if name in fields and not text:
            raise UnreadableError(f"invalid value for {name}: it is empty")
    status = fields.get("status", "")
    if status and status not in STATUSES:
        raise UnreadableError("invalid value for enum field status")
    _check_money(fields.get("amount.value", ""), fields.get("currency.code", ""))


def _check_money(amount: str, currency: str) -> None:
    if currency and currency not in MINOR_UNITS:
        raise UnreadableError("invalid currency.code")
    if bool(amount) is not bool(currency):
        raise UnreadableError("amount.value and currency.code are given together or not at all")
    if not amount:
        return
    found = AMOUNT.fullmatch(amount)
    if found is None or len(found[1] or "") > MINOR_UNITS[currency]:
        raise UnreadableError("invalid amount.value")
