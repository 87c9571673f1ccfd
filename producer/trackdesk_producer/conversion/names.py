"""The names of a conversion's fields: in Python, in the POST body, in the GET query."""

from enum import StrEnum

WIRE_NAMES = {
    "conversion_type_code": "conversionTypeCode",
    "cid": "cid",
    "external_cid": "externalCid",
    "external_client_id": "externalClientId",
    "amount": "amount.value",
    "currency": "currency.code",
    "external_id": "externalId",
    "customer_id": "customerId",
    "custom_params": "customParams",
    "status": "status",
    "created_at": "createdAt",
    "coupon_codes": "couponCodes",
    "revenue_origin_id": "revenueOriginId",
    "qualified": "qualified",
}
"""The name a person reads in Trackdesk's guide, by Python name, in the guide's order."""

CUSTOM_PARAM_NAMES = {f"adv_s{number}": f"advS{number}" for number in range(1, 6)}
"""The five custom parameters, by Python name."""

FIELD_OF_BODY_KEY = {name: name for name in WIRE_NAMES} | {
    wire.partition(".")[0]: name for name, wire in WIRE_NAMES.items()
}
"""Python name by each accepted key of a body: ``cid``, ``external_id`` and ``externalId`` alike."""

PARAM_OF_BODY_KEY = {name: name for name in CUSTOM_PARAM_NAMES} | {
    wire: name for name, wire in CUSTOM_PARAM_NAMES.items()
}
"""Python name by each accepted key inside ``customParams``."""

PARAM_OF_QUERY_NAME = {f"customParams.{wire}": name for name, wire in CUSTOM_PARAM_NAMES.items()}
"""Python name of a custom parameter, by its dotted GET name."""

FIELD_OF_QUERY_NAME = {wire: name for name, wire in WIRE_NAMES.items() if name != "custom_params"}
"""Python name by each GET name, the custom parameters aside."""

BODY_NAMES = tuple(wire.partition(".")[0] for wire in WIRE_NAMES.values())
"""The keys of the guide's POST body, in its order."""

QUERY_NAMES = (*FIELD_OF_QUERY_NAME, *PARAM_OF_QUERY_NAME)
"""The names of the guide's GET query."""


class ConversionStatus(StrEnum):
    """The status a conversion starts with; Trackdesk takes APPROVED where none is given.

    ``CONVERSION_STATUS_UNSPECIFIED`` exists in Trackdesk's enum, but nobody should send it: it is refused.
    """

    APPROVED = "CONVERSION_STATUS_APPROVED"
    FRAUD = "CONVERSION_STATUS_FRAUD"
    NOT_ALLOWED = "CONVERSION_STATUS_NOT_ALLOWED"
    BLOCKED = "CONVERSION_STATUS_BLOCKED"
    ON_HOLD = "CONVERSION_STATUS_ON_HOLD"
    PENDING = "CONVERSION_STATUS_PENDING"
    REFUNDED = "CONVERSION_STATUS_REFUNDED"
    REJECTED = "CONVERSION_STATUS_REJECTED"
    TEST = "CONVERSION_STATUS_TEST"
    QUALITY_CONTROL = "CONVERSION_STATUS_QUALITY_CONTROL"
