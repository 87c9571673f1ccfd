"""The conversion: a caller's immutable fact, valid from the moment it exists."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from trackdesk_producer.conversion.fast_path import ALWAYS_FITS_CHARACTERS, fill_from_guide_body
from trackdesk_producer.conversion.fields import ConversionFields, CustomParams, ExternalId
from trackdesk_producer.conversion.messages import explain
from trackdesk_producer.conversion.names import ConversionStatus
from trackdesk_producer.conversion.normalize import Normalized, normalize_body, normalize_query
from trackdesk_producer.conversion.rules import (
    MAX_BODY_BYTES,
    MAX_ID_LENGTH,
    PLACEHOLDERS,
    placeholder_problem,
    relations,
    shape,
    warnings_about,
)
from trackdesk_producer.conversion.wire import post_body
from trackdesk_producer.errors import ConversionInvalid, Problem

__all__ = ["Conversion", "ConversionStatus", "CustomParams", "parse_conversion", "parse_query"]

_ROOM_FOR_EXTERNAL_ID: Final = len(',"externalId":""') + 4 * MAX_ID_LENGTH
_NOTHING: Final = frozenset[str]()


class Conversion(ConversionFields):
    """One sale or lead, as Trackdesk's guide describes it.

    Construct it with Python names, wire names, or the guide's nested objects: ``amount="100.50"`` and
    ``amount={"value": "100.50"}`` are the same. None counts as absent. The attributes hold plain values:
    ``amount`` and ``currency`` are strings, ``created_at`` is in UTC (to the microsecond).

    Raises:
        ConversionInvalid: on construction, naming every broken rule at once. As a field of another
            pydantic model, the same sentences come as that model's ValidationError.
    """

    if not TYPE_CHECKING:  # type checkers read the constructor's parameters from the fields

        def __init__(self, /, **data: Any) -> None:
            _validate(self, normalize_body(data), datetime.now(UTC))

    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each thing that is allowed but looks like a mistake."""
        return warnings_about(self.cid, self.amount, self.currency)

    def with_external_id(self, external_id: str) -> "Conversion":
        """Return the same conversion under another externalId.

        Raises:
            ConversionInvalid: if the externalId breaks its rules.
        """
        if external_id in PLACEHOLDERS:
            raise ConversionInvalid([placeholder_problem("externalId")])
        return self.model_copy(update={"external_id": check_external_id(external_id)})


def check_external_id(external_id: str) -> str:
    """Return the externalId if it has the form of one.

    Raises:
        ConversionInvalid: if it has not.
    """
    try:
        _ExternalIdAlone(external_id=external_id)
    except ValidationError as error:
        raise ConversionInvalid(explain(error.errors(include_url=False))) from None
    return external_id


def parse_conversion(data: Mapping[str, Any] | Conversion, *, now: datetime | None = None) -> Conversion:
    """Return the conversion that a POST body of the guide, or a mapping of Python names, describes.

    Args:
        data: names and values; a conversion is returned as it is.
        now: what createdAt is compared with, an aware time; by default the clock.

    Raises:
        ConversionInvalid: naming every broken rule, whatever the data is.
    """
    if isinstance(data, Conversion):
        return data
    if type(data) is dict:
        conversion = Conversion.__new__(Conversion)
        if fill_from_guide_body(conversion, data, now):
            return conversion
    body = _mapping(data, 'write {"conversionTypeCode": "sale", ...}')
    return _validate(Conversion.__new__(Conversion), normalize_body(body), now or datetime.now(UTC))


def parse_query(params: Mapping[str, str | list[str]], *, now: datetime | None = None) -> Conversion:
    """Return the conversion that the guide's GET names describe; also for CSV rows.

    Args:
        params: one text per name, or a list of them as ``urllib.parse.parse_qs`` gives; empty text counts
            as absent.
        now: what createdAt is compared with, an aware time; by default the clock.

    Raises:
        ConversionInvalid: naming every broken rule, whatever the data is.
    """
    query = _mapping(params, "write conversionTypeCode=sale&cid=...")
    return _validate(Conversion.__new__(Conversion), normalize_query(query), now or datetime.now(UTC))


def _mapping(data: object, remedy: str) -> Mapping[Any, Any]:
    if isinstance(data, Mapping):
        return data
    rule = f"must be an object of names and values (got {shape(data)})"
    raise ConversionInvalid([Problem("conversion", rule, remedy)])


def _validate(conversion: Conversion, normalized: Normalized, now: datetime) -> Conversion:
    """Fill the bare conversion, or refuse with every problem. The one gate of all ways in."""
    fields, problems, faulty = normalized.fields, normalized.problems, normalized.faulty
    errors = None
    try:
        Conversion.__pydantic_validator__.validate_python(fields, self_instance=conversion)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    if errors is None and not problems:
        problems = relations(fields, _NOTHING, now) or _size_problems(conversion, fields)
    else:
        # pydantic stops at the fields' own rules; the rest is checked here, so that one error reports everything.
        errors = [error for error in errors or () if error["loc"][0] not in faulty]
        faulty = faulty | {str(error["loc"][0]) for error in errors}
        problems = [*problems, *explain(errors), *relations(fields, faulty, now)]
    if problems:
        raise ConversionInvalid(problems)
    return conversion


def _size_problems(conversion: Conversion, fields: Mapping[str, Any]) -> list[Problem]:
    free = 0
    if conversion.coupon_codes:
        free += len("".join(conversion.coupon_codes))
    if "custom_params" in fields:
        free += len("".join(fields["custom_params"].values()))
    if free <= ALWAYS_FITS_CHARACTERS:
        return []
    size = len(post_body(conversion))
    if conversion.external_id is None:
        size += _ROOM_FOR_EXTERNAL_ID
    if size <= MAX_BODY_BYTES:
        return []
    rule = f"must fit into {MAX_BODY_BYTES} bytes as a POST body, with room for an externalId (got {size} bytes)"
    return [Problem("conversion", rule, "shorten the custom parameters or send fewer coupon codes")]


class _ExternalIdAlone(BaseModel):
    external_id: ExternalId
