"""A conversion as bytes: the guide's POST body, its GET query, and the fingerprint of its content."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import blake2b
from json.encoder import encode_basestring as _text
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from trackdesk_producer.contract.conversion import Conversion


def post_body(conversion: "Conversion") -> bytes:
    """Return the JSON body of the POST: compact, UTF-8, only the fields present, in the guide's order."""
    return f"{{{','.join(_members(conversion, conversion.amount, conversion.external_id))}}}".encode()


def fingerprint(conversion: "Conversion") -> str:
    """Return 16 characters that are equal for equal content, whatever form it came in.

    Amounts count as decimals (``100`` is ``100.00``), times as instants; the externalId is left out, being
    the identity that the fingerprint is compared under. The value is stored with each job: what goes into
    it must never change (proven by ``test_the_fingerprint_of_a_known_conversion_never_changes``).
    """
    amount = conversion.amount
    members = sorted(_members(conversion, None if amount is None else _plainest(amount), None))
    return urlsafe_b64encode(blake2b(",".join(members).encode(), digest_size=12).digest()).decode()


def query_string(body: Mapping[str, object]) -> str:
    """Return the GET query of a decoded POST body: the same order, dotted names, repeated lists.

    Everything but letters, digits and ``-._~`` is percent-encoded, a space as ``%20``.

    Raises:
        ValueError: if the body holds anything but text, booleans, lists and objects of them.
    """
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in _flat(body, ""))


def instant(moment: datetime) -> str:
    """Return a UTC time in RFC 3339, ending in Z, with a fraction only where there is one."""
    return f"{moment.isoformat().removesuffix('+00:00')}Z"


def _members(conversion: "Conversion", amount: str | None, external_id: str | None) -> list[str]:
    # Written out, because it runs for every sale: in half the time of building a dict and encoding that.
    # encode_basestring is what json.dumps calls for a string when ensure_ascii is off.
    members = [f'"conversionTypeCode":{_text(conversion.conversion_type_code)}']
    add = members.append
    if conversion.cid is not None:
        add(f'"cid":{_text(conversion.cid)}')
    if conversion.external_cid is not None:
        add(f'"externalCid":{_text(conversion.external_cid)}')
    if conversion.external_client_id is not None:
        add(f'"externalClientId":{_text(conversion.external_client_id)}')
    if amount is not None:
        add(f'"amount":{{"value":"{amount}"}}')
    if conversion.currency is not None:
        add(f'"currency":{{"code":"{conversion.currency}"}}')
    if external_id is not None:
        add(f'"externalId":{_text(external_id)}')
    if conversion.customer_id is not None:
        add(f'"customerId":{_text(conversion.customer_id)}')
    if conversion.custom_params is not None:
        params = [f'"{name}":{_text(value)}' for name, value in conversion.custom_params.items()]
        add(f'"customParams":{{{",".join(params)}}}')
    if conversion.status is not None:
        add(f'"status":"{conversion.status}"')
    if conversion.created_at is not None:
        add(f'"createdAt":"{instant(conversion.created_at)}"')
    if conversion.coupon_codes:
        add(f'"couponCodes":[{",".join([_text(code) for code in conversion.coupon_codes])}]')
    if conversion.revenue_origin_id is not None:
        add(f'"revenueOriginId":{_text(conversion.revenue_origin_id)}')
    if conversion.qualified is not None:
        add(f'"qualified":{"true" if conversion.qualified else "false"}')
    return members


def _plainest(amount: str) -> str:
    whole, _, fraction = amount.partition(".")
    whole = whole.lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _flat(value: object, name: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield name, value
        case bool():
            yield name, "true" if value else "false"
        case Mapping():
            for key, inner in value.items():
                yield from _flat(inner, f"{name}.{key}" if name else key)
        case list():
            for inner in value:
                yield from _flat(inner, name)
        case _:
            raise ValueError(f"{name or 'the body'} is {type(value).__name__}, which no conversion contains")
