"""What to do about each reason a sale became a dead letter."""

from typing import Final

from trackdesk_worker.domain.outcome import Reason

_PASSING: Final = (
    "It kept failing until its attempts or its time were spent: see that Trackdesk answers again, then redrive."
)

REMEDIES: Final[dict[Reason, str]] = {
    Reason.PAIRED: "Delivered; nothing to do.",
    Reason.UNPAIRED: "Delivered without a click; nothing to do here.",
    Reason.CONFIRMED_DUPLICATE: "Delivered by an earlier attempt; nothing to do.",
    Reason.RESTORED_DUPLICATE: (
        "Delivered before the store was restored; nothing to do, unless the sale was corrected after the backup."
    ),
    Reason.DUPLICATE_DIFFERS: (
        "An earlier attempt may have landed with the content shown as in doubt. Look the externalId up at Trackdesk: "
        "to keep what is there, correct the sale back to it and redrive, or discard with a reason; "
        "to change it, correct it at Trackdesk, then discard."
    ),
    Reason.UNVERIFIED_DUPLICATE: (
        "Look the externalId up in Trackdesk: if another system recorded the sale, discard; "
        "if the offer is non-recurrent and refused it, correct the offer, then redrive."
    ),
    Reason.RECURRENCE_LIMIT: "The order was not recorded: raise the offer's conversion limit and redrive, or discard.",
    Reason.SOURCE_NOT_FOUND: "Trackdesk does not know the click: correct what the shop sends as cid, then redrive.",
    Reason.TYPE_NOT_FOUND: "Create the conversion type in Trackdesk, or correct its code in the shop, then redrive.",
    Reason.TYPE_NOT_CONFIGURED: "Add the conversion type to the offer in Trackdesk, then redrive.",
    Reason.PRICING_NOT_CONFIGURED: "Set the pricing of the conversion type in Trackdesk, then redrive.",
    Reason.AMOUNT_MISSING: (
        "A revenue-share offer needs an amount: have the shop send one under a new externalId, then discard."
    ),
    Reason.OFFER_NOT_ACTIVE: "Activate the offer in Trackdesk and redrive, or discard if it ended on purpose.",
    Reason.SOURCE_EXPIRED: "The click is older than the attribution window: widen it and redrive, or discard.",
    Reason.CURRENCY_NOT_CONFIGURED: "Configure the currency in Trackdesk, then redrive.",
    Reason.SOURCE_BLOCKED: "Trackdesk blocked the source: unblock it there and redrive, or discard.",
    Reason.CONFLICT: "Trackdesk named a conflict and did not explain it: look the sale up there, then redrive.",
    Reason.CALLER_ERROR: "Read the answer with `trackdesk dead show`: something in the request is refused.",
    Reason.UNAUTHORIZED: "Correct TRACKDESK_API_KEY, `trackdesk resume` the tenant, then redrive.",
    Reason.FORBIDDEN: "Check the key's rights and the plan in Trackdesk, `trackdesk resume` the tenant, then redrive.",
    Reason.RATE_LIMITED: "Lower TRACKDESK_RATE_LIMIT to the plan's limit, then redrive.",
    Reason.REFUSED_ALONE: (
        "Trackdesk, or a firewall before it, refuses this sale and takes others: read the answer with "
        "`trackdesk dead show`, correct the sale, then redrive."
    ),
    Reason.BAD_ENDPOINT: (
        "That was not Trackdesk's answer: correct TRACKDESK_BASE_URL or the tenant, "
        "`trackdesk resume` the tenant, then redrive."
    ),
    Reason.SERVER_ERROR: _PASSING,
    Reason.REQUEST_TIMEOUT: _PASSING,
    Reason.TIMEOUT: _PASSING,
    Reason.CONNECT_TIMEOUT: _PASSING,
    Reason.CONNECT_ERROR: _PASSING,
    Reason.CONNECTION_LOST: _PASSING,
    Reason.PROTOCOL_ERROR: _PASSING,
    Reason.DNS_ERROR: "The host's name was not found: correct TRACKDESK_BASE_URL or the tenant's name, then redrive.",
    Reason.TLS_ERROR: "The TLS connection failed: check certificates, proxies and the clock, then redrive.",
    Reason.INTERNAL_ERROR: (
        "An error in the worker: look for delivery.crashed in its log, upgrade or report it, then redrive."
    ),
    Reason.LOST: "Workers died while sending it: look at their logs for crashes or too little memory, then redrive.",
}
"""Every reason has its remedy; ``test_every_reason_has_a_remedy`` says so."""

_UNKNOWN: Final = "Read the answers with `trackdesk dead show`, then redrive or discard."


def remedy(reason: str) -> str:
    """Return what to do about a reason, also about one that this version does not know."""
    try:
        return REMEDIES[Reason(reason)]
    except ValueError:
        return _UNKNOWN
