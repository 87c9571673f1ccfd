"""A blocking producer's way to the store: connections, each used by one call at a time."""

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
import redis.sentinel

from trackdesk_producer._redis.deadline import deadline, time_left
from trackdesk_producer.contract.runner import Command, Flight, Replies, Request, begin_raw, finish_raw, run_raw
from trackdesk_producer.errors import QueueUnavailable
from trackdesk_producer.failures import NO_REPLY, unavailable


class Places:
    """So many places, for one caller each; who has waited longest gets the next. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: deque[threading.Lock] = deque()
        """A lock of each who waits, released when the place is theirs."""
        self._lock = threading.Lock()

    def take(self, within_s: float) -> bool:
        """Take a place; False when none became free in time."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        taken = False
        try:
            taken = turn.acquire(timeout=within_s)
        finally:
            if not taken:
                taken = not self._leave(turn)
        return taken

    def give_back(self) -> None:
        """Give a place back."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1

    def _leave(self, turn: threading.Lock) -> bool:
        """Stop waiting; False if the place was given to us at the last moment."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return True
            return False


class Lines:
    """Connections at rest, and the limit of those in use. Thread-safe; a process that was forked opens its own.

    They are kept apart from the pool, which opens them and takes back those that are of no more use: when the pool kept
    them, an enqueue took 1.2 times as long (median of 9 paired runs). Behind Sentinels the pool knows which still lead
    to the master, so that there it keeps all.
    """

    def __init__(self, pool: redis.ConnectionPool, *, timeout_s: float, max_connections: int) -> None:
        self.timeout_s = timeout_s
        self._pool = pool
        self.max_connections = max_connections
        self._places = Places(max_connections)
        self._keeps = not isinstance(pool, redis.sentinel.SentinelConnectionPool)
        self._resting: list[Any] = []
        self._pid = os.getpid()

    def wait(self) -> None:
        """Wait until one more connection may be taken; the caller then has to `take` one.

        Raises:
            TimeoutError: when all stay in use until the deadline of the call.
        """
        if self._pid != os.getpid():
            # The number last: another thread that finds it right must not find the parent's connections.
            self._resting, self._places = [], Places(self.max_connections)
            self._pid = os.getpid()
        left_s = time_left()
        if not self._places.take(self.timeout_s if left_s is None else left_s):
            raise TimeoutError("no connection became free")

    def take(self) -> Any:
        """Return a connection that nobody else uses, open and with nothing to be read."""
        try:
            return self._open()
        except BaseException:
            self._places.give_back()
            raise

    def _open(self) -> Any:
        while self._keeps:
            try:
                connection = self._resting.pop()
            except IndexError:
                break
            if connection.is_usable():
                return connection
            self._discard(connection)  # closed by the store, or stale
        return self._pool.get_connection()

    def give_back(self, connection: Any, *, sound: bool) -> None:
        """Put a connection to rest; one that may still bring replies of this call is closed."""
        try:
            if not sound:
                self._discard(connection)
            elif self._keeps:
                self._resting.append(connection)
            else:
                self._pool.release(connection)
        finally:
            self._places.give_back()

    def close(self) -> None:
        """Close all of them."""
        resting, self._resting = self._resting, []
        for connection in resting:
            self._discard(connection)
        self._pool.disconnect()

    def _discard(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)

    def ask(self, request: Request) -> Replies:
        """Send, and return the replies."""
        with deadline(self.timeout_s):
            return run_raw(self._round_trip, request.calls, request.also)

    def _round_trip(self, commands: Sequence[Command]) -> Replies:
        line = Line(self)
        try:
            line.write(commands)
            return line.read(len(commands))
        finally:
            line.close()


class Line:
    """One connection for one call, on which requests may be sent before earlier ones are answered."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._connection: Any = None
        self._unread = 0
        self._waited_s = 0.0
        """For a connection."""
        self._under_way: deque[tuple[Flight, float]] = deque()
        """With the time that is left for each."""

    def send(self, request: Request) -> None:
        """Send without waiting for the replies."""
        began = time.monotonic()
        with deadline(self._lines.timeout_s):
            flight = begin_raw(self.write, request.calls, request.also)
        self._under_way.append((flight, self._lines.timeout_s - (time.monotonic() - began)))

    def receive(self) -> Replies:
        """Return the replies to the oldest request; what was sent and not answered in time is lost."""
        flight, left_s = self._under_way.popleft()
        with deadline(left_s):
            return finish_raw(flight, self.read, self._lines._round_trip)

    def write(self, commands: Sequence[Command]) -> None:
        """Send commands."""
        try:
            if self._connection is None:
                self._connection = self._take()
            self._unread += len(commands)
            packed = self._connection.pack_commands(commands)
            self._connection.send_packed_command(packed, check_health=False)
        except NO_REPLY as error:
            raise self._unavailable(error) from error

    def read(self, count: int) -> Replies:
        """Read so many replies; an error reply becomes the exception in its place."""
        try:
            if self._connection is None:
                raise ConnectionError("the connection was lost")
            replies = [_read(self._connection) for _ in range(count)]
        except NO_REPLY as error:
            raise self._unavailable(error) from error
        self._unread -= count
        return replies

    def _take(self) -> Any:
        began = time.monotonic()
        try:
            self._lines.wait()
        finally:
            self._waited_s = time.monotonic() - began
        return self._lines.take()

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._lines.give_back(self._connection, sound=self._unread == 0)
            self._connection = None

    def _unavailable(self, error: Exception) -> QueueUnavailable:
        self._unread += 1  # replies of this call may still arrive: nobody may read them as theirs
        self.close()
        self._unread = 0
        lines = self._lines
        return unavailable(
            error, timeout_s=lines.timeout_s, waited_s=self._waited_s, max_connections=lines.max_connections
        )


def _read(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
