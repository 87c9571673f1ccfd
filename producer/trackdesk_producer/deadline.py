"""Connections that keep an absolute deadline.

redis-py bounds each single wait on its socket; an answer that comes drop by drop, or a greeting of several replies,
would stretch a call far beyond that. These sockets bound every wait by what is left until the deadline of the call.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

_call = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Bound everything this thread does on such connections meanwhile.

    Raises:
        TimeoutError: from the socket's call that would pass the deadline.
    """
    _call.ends = time.monotonic() + seconds
    try:
        yield
    finally:
        _call.ends = None


def _left() -> float | None:
    ends: float | None = getattr(_call, "ends", None)
    if ends is None:
        return None
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the call has passed")
    return left


class _Socket:
    """Stands before a connected socket, plain or TLS."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _bound(self) -> Any:
        left = _left()
        timeout = self._sock.gettimeout()
        # 0 asks whether there is something to read, without waiting.
        if left is not None and timeout != 0 and (timeout is None or timeout > left):
            self._sock.settimeout(left)
        return self._sock

    def sendall(self, data: Any) -> None:
        """Send all of it before the deadline."""
        self._bound().sendall(data)

    def recv(self, size: int, *flags: int) -> Any:
        """Receive something before the deadline."""
        return self._bound().recv(size, *flags)

    def recv_into(self, buffer: Any, *sizes: int) -> Any:
        """Receive something before the deadline."""
        return self._bound().recv_into(buffer, *sizes)


class BoundedConnection(redis.Connection):
    """TCP."""

    def _connect(self) -> Any:
        return _Socket(super()._connect())  # type: ignore[no-untyped-call] # redis-py's


class BoundedTLSConnection(redis.SSLConnection):
    """TCP and TLS."""

    def _connect(self) -> Any:
        return _Socket(super()._connect())  # type: ignore[no-untyped-call] # redis-py's


class BoundedUnixConnection(redis.UnixDomainSocketConnection):
    """A Unix domain socket."""

    def _connect(self) -> Any:
        return _Socket(super()._connect())  # type: ignore[no-untyped-call] # redis-py's


class BoundedSentinelConnection(SentinelManagedConnection):
    """TCP to the master that the Sentinels name."""

    def _connect(self) -> Any:
        return _Socket(super()._connect())  # type: ignore[no-untyped-call] # redis-py's


class BoundedSentinelTLSConnection(SentinelManagedSSLConnection):
    """TCP and TLS to the master that the Sentinels name."""

    def _connect(self) -> Any:
        return _Socket(super()._connect())  # type: ignore[no-untyped-call] # redis-py's
