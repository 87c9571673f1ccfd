"""What the producer raises. Every exception of this distribution descends from ``ProducerError``."""

from collections.abc import Iterable
from dataclasses import dataclass

_PROBLEMS_IN_MESSAGE = 10


class ProducerError(Exception):
    """The root of everything this library raises on purpose."""


class OptionInvalid(ProducerError, ValueError):  # the public name says what is wrong
    """An argument of the producer, or its URL, cannot be used; nothing was connected to, nothing stored.

    ``option`` names the argument, such as ``timeout_s``; ``rule`` says what must hold. Neither repeats a URL: what
    looks like a port in it may be half a password.
    """

    def __init__(self, option: str, rule: str) -> None:
        self.option = option
        self.rule = rule
        super().__init__(option, rule)

    def __str__(self) -> str:
        return f"{self.option} {self.rule}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule of a conversion.

    Attributes:
        field: the wire name, such as ``amount.value``.
        rule: what must hold, and the shape (type, length) of what was given; never the value itself.
        remedy: what to do about it.
    """

    field: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field} {self.rule}: {self.remedy}"


class ConversionInvalid(ProducerError, ValueError):  # the public name says what is wrong
    """The input breaks rules of the contract; sending it again unchanged cannot help.

    ``problems`` holds every broken rule, not only the first. Neither it nor ``str()`` contains a
    customer's data: values are described by type and length.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        said = [str(problem) for problem in self.problems[:_PROBLEMS_IN_MESSAGE]]
        left_out = len(self.problems) - len(said)
        if left_out:
            said.append(f"and {left_out} more problem{'s' if left_out > 1 else ''}")
        return "; ".join(said)


class QueueUnavailable(ProducerError):  # the public name says what is wrong
    """The store did not confirm; whether the conversion was stored is unknown. The message says why.

    Repeating the call with the same externalId is safe. ``external_id`` is that id, also when the
    producer created it; it is None where a call concerns no single conversion.
    """

    def __init__(self, what: str, *, external_id: str | None = None) -> None:
        self.what = what
        self.external_id = external_id
        super().__init__(what)

    def __str__(self) -> str:
        if self.external_id is None:
            return f"{self.what}; repeating the call is safe"
        return f"{self.what}; repeating the call with the same externalId is safe"


class DurabilityNotMet(QueueUnavailable):
    """The conversion is stored, but not yet as durably as was asked for; repeating is safe."""


class RecordTooNew(ProducerError):  # the public name says what is wrong
    """A newer release of this library wrote the record of this externalId; whether it holds the same sale is unknown.

    Nothing was stored or changed. Upgrade ``trackdesk-producer`` here, then repeat the call.
    """

    def __init__(self, external_id: str) -> None:
        self.external_id = external_id
        super().__init__(external_id)

    def __str__(self) -> str:
        return (
            f"a newer release of trackdesk-producer wrote the record of {self.external_id!r}; upgrade it here, "
            "then repeat the call"
        )


class QueueFull(ProducerError):  # the public name says what is wrong
    """The store refuses new conversions until there is room; nothing was stored."""
