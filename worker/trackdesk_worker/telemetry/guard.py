"""Telemetry that cannot record something drops it: nothing that delivers may fail of it."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast


class Dropping(Protocol):
    """What counts what it drops."""

    def drop(self) -> None:
        """Count one thing that was not recorded; never raise."""


P = ParamSpec("P")
D = TypeVar("D", bound=Dropping)


def guarded(method: Callable[Concatenate[D, P], None]) -> Callable[Concatenate[D, P], None]:
    """Let a recording method drop what it cannot record, instead of raising."""

    @functools.wraps(method)
    def record(self: D, *arguments: P.args, **named: P.kwargs) -> None:
        try:
            method(self, *arguments, **named)
        except Exception:
            self.drop()

    return cast("Callable[Concatenate[D, P], None]", record)
