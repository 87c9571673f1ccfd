"""Connections that do not outlive the role of their server.

After a failover behind one address (a service, a virtual IP, a name) the old connections stay with the old master. It
answers READONLY for ever, or, to who only reads, goes on as if nothing had happened; a new connection reaches the new
master. So a refusal that only another server can lift renews every connection of its pool, and none is used for longer
than `MAX_AGE_S`.
"""

import time
from typing import Any

from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.connection import SSLConnection
from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError, ResponseError

from trackdesk_producer.failures import CONNECTING, CONNECTING_TLS

MAX_AGE_S = 10.0
"""Recovery within 15 s holds also where the old server says nothing; a new connection every 10 s costs nothing."""
_ELSEWHERE = (ReadOnlyError, ClusterDownError, MovedError)
"""With what descends from them: MASTERDOWN. LOADING is a `ConnectionError` to redis-py, which closes by itself."""
_ELSEWHERE_PREFIXES = ("NOREPLICAS", "MISCONF", "UNBLOCKED")


class Tenure:
    """Since when the connections of one pool may be used. Thread-safe."""

    def __init__(self) -> None:
        self._since = 0.0

    def note(self, error: ResponseError) -> None:
        """Read an error reply: one that only another server can lift makes every present connection stale."""
        if isinstance(error, _ELSEWHERE) or str(error).startswith(_ELSEWHERE_PREFIXES):
            self._since = time.monotonic()

    def is_over(self, opened_at: float) -> bool:
        """Return whether a connection of that time must not be used again."""
        return opened_at <= self._since or time.monotonic() - opened_at > MAX_AGE_S


class _Renewed:
    """Comes before a connection class of redis-py; takes the `tenure` of its pool."""

    def __init__(self, *, tenure: Tenure, **options: Any) -> None:
        self._tenure = tenure
        self._opened_at = 0.0
        super().__init__(**options)

    def is_stale(self) -> bool:
        """Return whether it must be closed instead of used."""
        return self._tenure.is_over(self._opened_at)


def _phase(connection: object) -> str:
    return CONNECTING_TLS if isinstance(connection, SSLConnection | AsyncSSLConnection) else CONNECTING


class Renewed(_Renewed):
    """For blocking connections."""

    def connect(self) -> None:
        """Connect unless connected; a stale connection is closed first. The pool calls this before each use."""
        connection: Any = self
        if connection._sock is not None and self.is_stale():
            connection.disconnect()
        super().connect()  # type: ignore[misc] # of the class beside this one

    def _connect(self) -> Any:
        self._opened_at = time.monotonic()
        try:
            return super()._connect()  # type: ignore[misc]
        except BaseException as error:
            error.add_note(_phase(self))
            raise

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read one reply, raise one that is an error, and note what it says of the server."""
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            self._tenure.note(error)
            raise


class AsyncRenewed(_Renewed):
    """The same on asyncio."""

    async def connect(self) -> None:
        """Connect unless connected; a stale connection is closed first. The pool calls this before each use."""
        connection: Any = self
        if connection.is_connected and self.is_stale():
            await connection.disconnect(nowait=True)
        await super().connect()  # type: ignore[misc]

    async def _connect(self) -> None:
        self._opened_at = time.monotonic()
        try:
            await super()._connect()  # type: ignore[misc]
        except BaseException as error:  # also the cancellation by the deadline of the call
            error.add_note(_phase(self))
            raise

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read one reply, raise one that is an error, and note what it says of the server."""
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            self._tenure.note(error)
            raise
