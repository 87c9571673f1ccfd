"""The business decision: is this conversion recorded, and if not, why. Pure."""

from dataclasses import dataclass
from typing import Protocol, assert_never

from trackdesk_simulator.config import Click, ClickState, TenantConfig
from trackdesk_simulator.parse import ParsedConversion
from trackdesk_simulator.problems import BusinessError


class Recorded(Protocol):
    """What the tenant's ledger already holds."""

    def has(self, type_code: str, external_id: str, revenue_origin_id: str | None = None) -> bool:
        """Return whether this externalId was recorded for this type, under this revenue origin or under any."""
        ...  # pragma: no cover

    def for_click(self, type_code: str, source: str) -> int:
        """Count what was recorded for this type and click."""
        ...  # pragma: no cover


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a conversion is not recorded; a detail replaces the problem's usual message."""

    problem: BusinessError
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The conversion is to be recorded, for the click named `source`; `paired` is False without a click."""

    source: str
    paired: bool


def judge(
    conversion: ParsedConversion, config: TenantConfig, recorded: Recorded, *, now: float, opened_at: float
) -> Acceptance | Refusal:
    """Decide about one conversion that arrived at `now`. A click without a time dates from `opened_at`.

    The order of the checks is a guess. Dedupe comes after source and type, and before recurrence and limit.
    """
    incomplete = _incomplete(conversion, now)
    if incomplete is not None:
        return Refusal(BusinessError.INVALID_ARGUMENT, incomplete)
    kind = config.types.get(conversion.type_code)
    if kind is None:
        return Refusal(BusinessError.TYPE_NOT_FOUND)
    source = conversion.cid or conversion.external_cid or conversion.external_client_id
    click = config.click(source)
    problem = _source_problem(conversion, click, config, now=now, opened_at=opened_at)
    if problem is not None:
        return Refusal(problem)
    if not kind.configured:
        return Refusal(BusinessError.TYPE_NOT_CONFIGURED)
    if not kind.priced:
        return Refusal(BusinessError.PRICING_NOT_CONFIGURED)
    if conversion.amount is None:
        if kind.kind == "percentage":
            return Refusal(BusinessError.AMOUNT_MISSING)
    elif conversion.currency and config.currencies is not None and conversion.currency not in config.currencies:
        return Refusal(BusinessError.CURRENCY_NOT_CONFIGURED)
    type_code = conversion.type_code
    origin = conversion.revenue_origin_id if config.network else None
    if config.dedupe and conversion.external_id and recorded.has(type_code, conversion.external_id, origin):
        return Refusal(BusinessError.ALREADY_EXISTS)
    if not kind.recurrent and recorded.for_click(type_code, source) > 0:
        return Refusal(BusinessError.NOT_RECURRENT)
    if kind.limit_per_click is not None and recorded.for_click(type_code, source) >= kind.limit_per_click:
        return Refusal(BusinessError.LIMIT_REACHED)
    return Acceptance(source, paired=click.state is not ClickState.UNPAIRED)


def _incomplete(conversion: ParsedConversion, now: float) -> str | None:
    if not conversion.type_code.strip():
        return "conversionTypeCode is required"
    sources = (conversion.cid, conversion.external_cid, conversion.external_client_id)
    if sum(map(bool, sources)) != 1:
        return "exactly one of cid, externalCid and externalClientId is required"
    if not conversion.revenue_origin_id and (not conversion.cid or conversion.coupon_codes):
        return "revenueOriginId is required"
    if conversion.created_at is not None and conversion.created_at.timestamp() > now:
        return "createdAt must be in the past"
    return None


def _source_problem(
    conversion: ParsedConversion, click: Click, config: TenantConfig, *, now: float, opened_at: float
) -> BusinessError | None:
    match click.state:
        case ClickState.UNKNOWN:
            return _not_found(conversion)
        case ClickState.EXPIRED:
            return BusinessError.SOURCE_EXPIRED
        case ClickState.BLOCKED:
            return BusinessError.SOURCE_BLOCKED
        case ClickState.INACTIVE:
            return BusinessError.OFFER_NOT_ACTIVE
        case ClickState.KNOWN | ClickState.UNPAIRED:
            pass
        case _:
            assert_never(click.state)
    if config.attribution_window_s is not None:
        clicked_at = opened_at if click.clicked_at is None else click.clicked_at.timestamp()
        sold_at = now
        if config.expiry_by_created_at and conversion.created_at is not None:
            sold_at = conversion.created_at.timestamp()
        if sold_at - clicked_at > config.attribution_window_s:
            return BusinessError.SOURCE_EXPIRED
    return None


def _not_found(conversion: ParsedConversion) -> BusinessError:
    if conversion.cid:
        return BusinessError.SOURCE_NOT_FOUND
    return BusinessError.EXTERNAL_CID_NOT_FOUND if conversion.external_cid else BusinessError.CLIENT_NOT_FOUND
