"""Sums of money as text: for programs, and for people."""

from collections.abc import Mapping
from decimal import Decimal

from trackdesk_producer.contract.job import NO_CURRENCY, JobRecord
from trackdesk_worker.domain.money import padded, plain_amount, plain_money

__all__ = ["in_doubt", "plain_amount", "plain_money", "readable_money"]


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
