"""What the producer raises. Every exception of this distribution descends from ``ProducerError``."""

from collections.abc import Iterable
from dataclasses import dataclass

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

NO_REPLY = (RedisError, OSError)
"""What redis-py raises for a call that brought no reply: also where something that is no Redis answers."""

_PROBLEMS_IN_MESSAGE = 10


class ProducerError(Exception):
    """The root of everything this library raises on purpose."""


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
    """The store did not confirm in time; whether the conversion was stored is unknown.

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


def unavailable(error: Exception, *, timeout_s: float, waited_s: float, max_connections: int) -> QueueUnavailable:
    """Return what to raise for a call that brought no reply.

    Args:
        error: what ended it.
        timeout_s: the call's deadline.
        waited_s: how much of it the call waited for a connection.
        max_connections: the producer's limit.
    """
    if not isinstance(error, TimeoutError | RedisTimeoutError):
        return QueueUnavailable(f"the connection to the store failed: {error}")
    if waited_s >= timeout_s / 2:
        return QueueUnavailable(
            f"all {max_connections} connections of this producer were in use for {waited_s:.2g} s of the "
            f"{timeout_s:g} s a call may take: raise max_connections or timeout_s"
        )
    if "connecting" in str(error):
        return QueueUnavailable("the store could not be reached in time: it did not accept the connection")
    return QueueUnavailable(f"the store gave no answer within {timeout_s:g} s")


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
