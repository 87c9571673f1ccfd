"""Why a conversion is refused, and the code and message each refusal carries unless it is configured.

The messages are the documented log texts. The codes are inferred from gRPC custom: what Trackdesk really
sends is not documented, so `SimulatorConfig.problems` can replace both.
"""

from enum import StrEnum
from typing import Final


class BusinessError(StrEnum):
    """Each way a request to the conversion endpoint can be refused."""

    INVALID_ARGUMENT = "invalid_argument"
    TYPE_NOT_FOUND = "type_not_found"
    TYPE_NOT_CONFIGURED = "type_not_configured"
    PRICING_NOT_CONFIGURED = "pricing_not_configured"
    SOURCE_NOT_FOUND = "source_not_found"
    EXTERNAL_CID_NOT_FOUND = "external_cid_not_found"
    CLIENT_NOT_FOUND = "client_not_found"
    SOURCE_EXPIRED = "source_expired"
    SOURCE_BLOCKED = "source_blocked"
    OFFER_NOT_ACTIVE = "offer_not_active"
    AMOUNT_MISSING = "amount_missing"
    CURRENCY_NOT_CONFIGURED = "currency_not_configured"
    ALREADY_EXISTS = "already_exists"
    NOT_RECURRENT = "not_recurrent"
    LIMIT_REACHED = "limit_reached"
    KEY_MISSING = "key_missing"
    KEY_UNKNOWN = "key_unknown"
    KEY_REVOKED = "key_revoked"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    RATE_LIMITED = "rate_limited"
    LEDGER_FULL = "ledger_full"


DEFAULTS: Final[dict[BusinessError, tuple[int, str]]] = {
    BusinessError.INVALID_ARGUMENT: (3, "invalid argument"),
    BusinessError.TYPE_NOT_FOUND: (5, "conversion type not found"),
    BusinessError.TYPE_NOT_CONFIGURED: (9, "conversion type not configured"),
    BusinessError.PRICING_NOT_CONFIGURED: (9, "pricing for conversion type not configured"),
    BusinessError.SOURCE_NOT_FOUND: (5, "conversion source not found"),
    BusinessError.EXTERNAL_CID_NOT_FOUND: (5, "conversion source with the external cid not found"),
    BusinessError.CLIENT_NOT_FOUND: (5, "conversion source with the client not found"),
    BusinessError.SOURCE_EXPIRED: (9, "expired source"),
    BusinessError.SOURCE_BLOCKED: (9, "conversion source blocked"),
    BusinessError.OFFER_NOT_ACTIVE: (9, "offer not active"),
    BusinessError.AMOUNT_MISSING: (3, "missing conversion amount"),
    BusinessError.CURRENCY_NOT_CONFIGURED: (9, "currency not configured"),
    BusinessError.ALREADY_EXISTS: (6, "conversion already exists"),
    # The same words on purpose: "already exists" has two meanings, and a client cannot tell them apart.
    BusinessError.NOT_RECURRENT: (6, "conversion already exists"),
    BusinessError.LIMIT_REACHED: (9, "conversion count limit reached"),
    BusinessError.KEY_MISSING: (16, "missing API key"),
    BusinessError.KEY_UNKNOWN: (16, "invalid API key"),
    BusinessError.KEY_REVOKED: (7, "API key revoked"),
    BusinessError.METHOD_NOT_ALLOWED: (12, "Method Not Allowed"),
    BusinessError.RATE_LIMITED: (8, "rate limit exceeded"),
    BusinessError.LEDGER_FULL: (13, "the simulator's ledger is full: reset it or raise max_rows"),
}

GATEWAY_STATUS: Final[dict[int, int]] = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}
"""HTTP status for each gRPC code, as a gRPC gateway maps them."""
