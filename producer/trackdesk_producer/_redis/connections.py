"""Connections to the store, by its address. Behind Sentinels each new connection asks them for the master first, so
that a failover needs nobody's help: the old connections break, the next ones lead to the new master. Behind one address
`tenure.py` sees to it that old connections are left."""

from collections.abc import Mapping
from typing import Any, TypeVar

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from trackdesk_producer._redis.address import Address, parse_address
from trackdesk_producer._redis.deadline import (
    BoundedConnection,
    BoundedSentinelConnection,
    BoundedSentinelTLSConnection,
    BoundedTLSConnection,
    BoundedUnixConnection,
)
from trackdesk_producer._redis.tenure import AsyncRenewed, Tenure
from trackdesk_producer.errors import OptionInvalid
from trackdesk_producer.options import check_count, check_seconds

Pool = TypeVar("Pool", redis.ConnectionPool, redis.asyncio.ConnectionPool)


def open_pool(url: str, **options: Any) -> redis.ConnectionPool:
    """Return a pool of blocking connections that keep the deadline of a call; it connects on first use.

    Args:
        url: an address as `parse_address` reads it.
        options: redis-py's options of every connection, also of those to the Sentinels.

    Raises:
        OptionInvalid: when `url` is no address.
    """
    address = parse_address(url)
    if address.master is None:
        classes: dict[str, type[Any]] = {"rediss": BoundedTLSConnection, "unix": BoundedUnixConnection}
        return _tried(
            redis.ConnectionPool(
                connection_class=classes.get(address.scheme, BoundedConnection),
                **_of(address, options),
                tenure=Tenure(),
            )
        )
    manager = redis.sentinel.Sentinel([], **options)
    # Sentinels of our own making: redis-py's would wait for each of them beyond the deadline of the call.
    manager.sentinels = [
        redis.Redis.from_pool(
            redis.ConnectionPool(
                connection_class=BoundedTLSConnection if address.tls else BoundedConnection,
                host=host,
                port=port,
                **options,
                **address.tls_options,
                tenure=Tenure(),
            )
        )
        for host, port in address.sentinels
    ]
    return redis.sentinel.SentinelConnectionPool(
        address.master,
        manager,
        connection_class=BoundedSentinelTLSConnection if address.tls else BoundedSentinelConnection,
        **{**options, **address.options},
        tenure=Tenure(),
    )


def open_client(url: str, **options: Any) -> redis.Redis:
    """Return a blocking client; arguments and errors as for `open_pool`."""
    return redis.Redis.from_pool(open_pool(url, **options))


class _AsyncConnection(AsyncRenewed, redis.asyncio.Connection):
    """TCP."""


class _AsyncTLSConnection(AsyncRenewed, redis.asyncio.SSLConnection):
    """TCP and TLS."""


class _AsyncUnixConnection(AsyncRenewed, redis.asyncio.UnixDomainSocketConnection):
    """A Unix domain socket."""


class _AsyncSentinelConnection(AsyncRenewed, redis.asyncio.sentinel.SentinelManagedConnection):
    """TCP to the master that the Sentinels name."""


class _AsyncSentinelTLSConnection(AsyncRenewed, redis.asyncio.sentinel.SentinelManagedSSLConnection):
    """TCP and TLS to the master that the Sentinels name."""


def open_async_client(url: str, **options: Any) -> redis.asyncio.Redis:
    """Return an asyncio client; arguments and errors as for `open_pool`."""
    address = parse_address(url)
    pool: redis.asyncio.ConnectionPool
    if address.master is None:
        classes: dict[str, type[Any]] = {"rediss": _AsyncTLSConnection, "unix": _AsyncUnixConnection}
        pool = redis.asyncio.ConnectionPool(
            connection_class=classes.get(address.scheme, _AsyncConnection),
            **_of(address, options),
            tenure=Tenure(),
        )
        return redis.asyncio.Redis.from_pool(_tried(pool))
    manager = redis.asyncio.sentinel.Sentinel(
        address.sentinels, sentinel_kwargs={**options, "ssl": address.tls, **_tls_for_client(address)}
    )
    pool = redis.asyncio.sentinel.SentinelConnectionPool(
        address.master,
        manager,
        connection_class=_AsyncSentinelTLSConnection if address.tls else _AsyncSentinelConnection,
        **{**options, **address.options},
        tenure=Tenure(),
    )
    return redis.asyncio.Redis.from_pool(pool)


def _of(address: Address, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of connections to a server: the address has the last word."""
    merged = {**options, **address.options}
    if address.scheme == "unix":
        merged.pop("socket_keepalive", None)
    return merged


def _tried(pool: Pool) -> Pool:
    """Return the pool if its connections take its options, which redis-py notices only on first use."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise OptionInvalid("url", "has an option that no connection takes, behind the question mark") from error
    return pool


def _tls_for_client(address: Address) -> dict[str, Any]:
    return address.tls_options if address.tls else {}


MAX_CONNECTIONS = 100
"""More calls than these wait for a connection. A call takes a fraction of a millisecond, with `Durability.FSYNC` up to
0.4 s: there more connections mean more calls a second."""


def connection_options(connect_timeout_s: float, timeout_s: float, max_connections: int) -> dict[str, Any]:
    """Return the options of a producer's connections: bounded waits and no hidden retries.

    Raises:
        OptionInvalid: when one of them cannot be used.
    """
    return {
        "max_connections": check_count("max_connections", max_connections),
        "socket_connect_timeout": check_seconds("connect_timeout_s", connect_timeout_s),
        "socket_timeout": check_seconds("timeout_s", timeout_s),
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,  # no CLIENT SETINFO: it would cost each new connection two more round trips
    }
