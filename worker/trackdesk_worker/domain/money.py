"""Sums of money as text: exact for programs, grouped for people; at least the digits of the currency's minor unit."""

from collections.abc import Mapping
from decimal import Decimal

from trackdesk_producer.contract.record import NO_CURRENCY, JobRecord
from trackdesk_producer.conversion.currencies import MINOR_UNITS


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


def readable_money(money: Mapping[str, Decimal]) -> str:
    """Return ``38,210.50 EUR + 7.00 USD``."""
    parts = []
    for currency, amount in sorted(money.items()):
        name = "without currency" if currency == NO_CURRENCY else currency
        parts.append(f"{padded(f'{amount:,f}', currency)} {name}")
    return " + ".join(parts) or "no money"


def in_doubt(record: JobRecord) -> tuple[str, ...]:
    """Return the amounts with which an attempt may have landed: ``100.50 EUR``. What else changed is in the history."""
    sums = ({} if c.amount is None else {c.currency or NO_CURRENCY: c.amount} for c in record.doubt)
    return tuple(dict.fromkeys(map(readable_money, sums)))
