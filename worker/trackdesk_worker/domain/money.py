"""Sums of money as text for programs: exact, with at least the digits of the currency's minor unit."""

from collections.abc import Mapping
from decimal import Decimal

from trackdesk_producer.contract.currencies import MINOR_UNITS


def plain_amount(amount: Decimal, currency: str | None) -> str:
    """Return ``38210.50``."""
    return padded(f"{amount:f}", currency)


def plain_money(money: Mapping[str, Decimal]) -> dict[str, str]:
    """Return each currency's sum as text; JSON has no exact number."""
    return {currency: plain_amount(amount, currency) for currency, amount in sorted(money.items())}


def padded(digits: str, currency: str | None) -> str:
    """Bring the fraction to at least the currency's digits, without needless zeros behind."""
    wanted = MINOR_UNITS.get(currency or "", 0)
    whole, _, fraction = digits.partition(".")
    fraction = fraction.rstrip("0").ljust(wanted, "0")
    return f"{whole}.{fraction}" if fraction else whole
