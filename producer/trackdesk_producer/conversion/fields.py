"""The types of a conversion's fields, with the limits that pydantic checks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.aliases import AliasGenerator

from trackdesk_producer.conversion.names import CUSTOM_PARAM_NAMES, ConversionStatus
from trackdesk_producer.conversion.rules import (
    AMOUNT_PATTERN,
    MAX_ID_LENGTH,
    MAX_TEXT_LENGTH,
    NON_BLANK_PATTERN,
    TEXT_PATTERN,
)

Name = Annotated[str, StringConstraints(strict=True, max_length=MAX_TEXT_LENGTH, pattern=NON_BLANK_PATTERN)]
"""A text that must say something: conversion type, click ids, currency, coupon code, origin."""
ExternalId = Annotated[str, StringConstraints(strict=True, max_length=MAX_ID_LENGTH, pattern=NON_BLANK_PATTERN)]
CustomerId = Annotated[str, StringConstraints(strict=True, max_length=MAX_ID_LENGTH, pattern=TEXT_PATTERN)]
FreeText = Annotated[str, StringConstraints(strict=True, max_length=MAX_TEXT_LENGTH, pattern=TEXT_PATTERN)]
Amount = Annotated[str, StringConstraints(strict=True, pattern=AMOUNT_PATTERN)]

_WIRE_NAMES: Final = tuple(CUSTOM_PARAM_NAMES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomParams:
    """The five free texts advS1 to advS5; they may be personal data, so ``repr`` shows none of them.

    They are checked by the conversion they enter, together with its other fields.
    """

    adv_s1: FreeText | None = None
    adv_s2: FreeText | None = None
    adv_s3: FreeText | None = None
    adv_s4: FreeText | None = None
    adv_s5: FreeText | None = None

    def __repr__(self) -> str:
        return f"CustomParams({', '.join(f'{name}=…' for name, _ in self.items())})"

    def items(self) -> list[tuple[str, str]]:
        """Return wire name and text of each parameter given, in order."""
        texts = (self.adv_s1, self.adv_s2, self.adv_s3, self.adv_s4, self.adv_s5)
        return [(name, text) for name, text in zip(_WIRE_NAMES, texts, strict=True) if text is not None]


class ConversionFields(BaseModel):
    """The fields of a conversion, typed; `Conversion` adds what makes them valid together."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(serialization_alias=to_camel),
    )

    conversion_type_code: Name
    cid: Name | None = Field(default=None, repr=False)
    external_cid: Name | None = Field(default=None, repr=False)
    external_client_id: Name | None = Field(default=None, repr=False)
    amount: Amount | None = None
    currency: Name | None = None
    external_id: ExternalId | None = None
    customer_id: CustomerId | None = Field(default=None, repr=False)
    custom_params: CustomParams | None = Field(default=None, repr=False)
    status: ConversionStatus | None = None
    created_at: Annotated[datetime, Strict()] | None = None
    coupon_codes: Annotated[tuple[Name, ...], Strict()] = ()
    revenue_origin_id: Name | None = None
    qualified: Annotated[bool, Strict()] | None = None
