"""Connections that keep an absolute deadline.

redis-py bounds each single wait on its socket; an answer that comes drop by drop, or a greeting of several replies,
would stretch a call far beyond that. These sockets bound every wait by what is left until the deadline of the call.
"""

import select
import threading
import time
from typing import Any

import redis
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

from trackdesk_producer._redis.tenure import Renewed

_call = threading.local()


class deadline:  # noqa: N801 - a context manager, written out because it is entered for every call
    """Bound everything this thread does on such connections meanwhile to so many seconds.

    Raises:
        TimeoutError: from the socket's call that would pass the deadline.
    """

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        _call.ends = time.monotonic() + self._seconds

    def __exit__(self, *_: object) -> None:
        _call.ends = None


def time_left() -> float | None:
    """Return the seconds left to this thread's call; None outside of one.

    Raises:
        TimeoutError: when there are none.
    """
    ends: float | None = getattr(_call, "ends", None)
    if ends is None:
        return None
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the call has passed")
    return left


class _Socket:
    """Wraps a connected socket, plain or TLS."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _bound(self) -> Any:
        left = time_left()
        # 0 asks whether there is something to read, without waiting.
        if left is not None and self._sock.gettimeout() != 0:
            self._sock.settimeout(left)
        return self._sock

    def is_quiet(self) -> bool:
        """Return whether there is nothing to read, not even the end of the connection."""
        return not self._poll.poll(0)

    def sendall(self, data: Any) -> None:
        """Send all of it before the deadline."""
        self._bound().sendall(data)

    def recv(self, size: int, *flags: int) -> Any:
        """Receive something before the deadline."""
        return self._bound().recv(size, *flags)

    def recv_into(self, buffer: Any, *sizes: int) -> Any:
        """Receive something before the deadline."""
        return self._bound().recv_into(buffer, *sizes)


class _Bound:
    """A limit in seconds, of a connection, that never reaches beyond the deadline of the call."""

    def __set_name__(self, _: type, name: str) -> None:
        self._name = f"_own_{name}"

    def __get__(self, connection: Any, _: type | None = None) -> float | None:
        own: float | None = getattr(connection, self._name, None)
        left = time_left()
        return own if left is None else min(left, own or left)

    def __set__(self, connection: Any, seconds: float | None) -> None:
        setattr(connection, self._name, seconds)


class _Bounded(Renewed):
    """Comes before a connection class of redis-py."""

    # redis-py reads these two for each address of a name, and for the handshake of TLS.
    socket_connect_timeout = _Bound()
    socket_timeout = _Bound()

    def __init__(
        self, *, socket_timeout: float | None = None, socket_connect_timeout: float | None = None, **options: Any
    ) -> None:
        super().__init__(socket_timeout=socket_timeout, socket_connect_timeout=socket_connect_timeout, **options)
        # redis-py 8 keeps the first under a name of its own, past the property above.
        self.socket_timeout = socket_timeout
        self.socket_connect_timeout = socket_connect_timeout or socket_timeout

    def _connect(self) -> Any:
        return _Socket(super()._connect())

    def is_usable(self) -> bool:
        """Return whether it is open, may be used for its age, and has nothing to be read."""
        connection: Any = self
        sock = connection._sock
        return sock is not None and not self.is_stale() and bool(sock.is_quiet())


class BoundedConnection(_Bounded, redis.Connection):
    """TCP."""


class _TakesTickets(_Bounded):
    """Reads the session tickets that follow a TLS 1.3 handshake, with the answer to a PING.

    Without a password nothing else is said at the beginning, and a socket that holds tickets looks as if an answer
    nobody asked for had come: redis-py closes such a connection, and the next one, and gives up.
    """

    def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet the server as redis-py does, then once more."""
        super().on_connect_check_health(check_health)  # type: ignore[misc] # of the class beside this one
        connection: Any = self
        connection.send_command("PING", check_health=False)
        connection.read_response()


class BoundedTLSConnection(_TakesTickets, redis.SSLConnection):
    """TCP and TLS."""


class BoundedUnixConnection(_Bounded, redis.UnixDomainSocketConnection):
    """A Unix domain socket."""


class BoundedSentinelConnection(_Bounded, SentinelManagedConnection):
    """TCP to the master that the Sentinels name."""


class BoundedSentinelTLSConnection(_TakesTickets, SentinelManagedSSLConnection):
    """TCP and TLS to the master that the Sentinels name."""
