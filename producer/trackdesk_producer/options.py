"""Checks of a producer's arguments, for both producers."""

from typing import Any, Final

from trackdesk_producer.errors import OptionInvalid
from trackdesk_producer.receipts import Durability

_LONGEST_S: Final = 86_400


def check_seconds(option: str, value: Any) -> float:
    """Return a limit in seconds.

    Raises:
        OptionInvalid: it is no number above 0, or longer than a day.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST_S:
        return value
    given = repr(value) if isinstance(value, int | float) else f"a value of type {type(value).__name__}"
    raise OptionInvalid(option, f"must be a number of seconds above 0 and at most {_LONGEST_S}, not {given}")


def check_count(option: str, value: Any) -> int:
    """Return a whole number.

    Raises:
        OptionInvalid: it is no whole number, or less than 1.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    given = repr(value) if isinstance(value, int | float) else f"a value of type {type(value).__name__}"
    raise OptionInvalid(option, f"must be a whole number of at least 1, not {given}")


def check_level(value: Any) -> Durability:
    """Return a level of durability.

    Raises:
        OptionInvalid: there is no such level.
    """
    if isinstance(value, str):
        for level in Durability:
            if level == value:
                return level
    levels = ", ".join(repr(level.value) for level in Durability)
    given = repr(value[:40]) if isinstance(value, str) else f"a value of type {type(value).__name__}"
    raise OptionInvalid("durability", f"must be one of {levels}, not {given}")
