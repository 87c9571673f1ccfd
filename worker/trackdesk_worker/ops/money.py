"""Sums of money as text: for programs, and for people."""

from collections.abc import Mapping
from decimal import Decimal

from trackdesk_producer.contract.job import NO_CURRENCY
from trackdesk_worker.domain.money import padded, plain_amount, plain_money

__all__ = ["plain_amount", "plain_money", "readable_money"]


def readable_money(money: Mapping[str, Decimal]) -> str:
    """Return ``38,210.50 EUR + 7.00 USD``."""
    parts = []
    for currency, amount in sorted(money.items()):
        name = "without currency" if currency == NO_CURRENCY else currency
        parts.append(f"{padded(f'{amount:,f}', currency)} {name}")
    return " + ".join(parts) or "no money"
