"""Whether an error says that the store cannot be used now, or that one call was wrong."""

from redis.exceptions import (
    ClusterDownError,
    InvalidResponse,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    ClusterDownError,
    TryAgainError,
    NoScriptError,
    InvalidResponse,  # something that is no Redis answers, as a proxy does whose server is gone
)
_TROUBLES = ("BUSY ", "MISCONF ", "NOREPLICAS ", "LOADING ", "UNKILLABLE ")
"""First words of replies about the server, whatever was asked."""


def store_away(error: BaseException) -> bool:
    """Return whether the store is away or in trouble: every call would fail, and waiting helps.

    Any other reply is about the call alone: a key of another type, a script that failed.
    """
    return isinstance(error, _AWAY) or (isinstance(error, ResponseError) and says(error, *_TROUBLES))


def says(error: BaseException, *first_words: str) -> bool:
    """Return whether a reply begins with one of these words, behind what a pipeline writes before it."""
    return str(error).rpartition(" of pipeline caused error: ")[2].startswith(first_words)
