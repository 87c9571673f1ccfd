"""What it means that the store brought no reply, or refused a call: in words that say what to do."""

import re
import ssl
from collections.abc import Iterator
from socket import gaierror
from typing import Final

from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.sentinel import MasterNotFoundError

from trackdesk_producer.errors import QueueUnavailable

NO_REPLY = (RedisError, OSError)
"""What redis-py raises for a call that brought no reply: also where something that is no Redis answers."""

CONNECTING: Final = "while connecting"
CONNECTING_TLS: Final = "while connecting over TLS"
"""Notes that connections add to an error: redis-py loses where a deadline passed."""

_WHERE = re.compile(r"connecting to (.+?)\. ")
_MASTER = re.compile(r"No master found for '([^']*)'( : )?")
_DEEPEST = 6
_LOGIN: Final = (
    "the store refused the login: correct the user and password in the URL, with reserved characters percent-encoded"
)
_NO_LOGIN: Final = "the store wants a login: write the URL as redis://user:password@host:port/0"


def unavailable(error: Exception, *, timeout_s: float, waited_s: float, max_connections: int) -> QueueUnavailable:
    """Return what to raise for a call that brought no reply.

    Args:
        error: what ended it.
        timeout_s: the call's deadline.
        waited_s: how much of it the call waited for a connection.
        max_connections: the producer's limit.
    """
    if not isinstance(error, TimeoutError | RedisTimeoutError):
        return QueueUnavailable(_reason(error))
    if waited_s >= timeout_s / 2:
        return QueueUnavailable(
            f"all {max_connections} connections of this producer were in use for {waited_s:.2g} s of the "
            f"{timeout_s:g} s a call may take: raise max_connections or timeout_s"
        )
    notes = {note for link in _links(error) for note in getattr(link, "__notes__", ())}
    if CONNECTING_TLS in notes:
        return QueueUnavailable(
            "the store could not be reached in time: it did not complete the TLS connection; a port without TLS does "
            "the same, and its URL begins with redis://"
        )
    if CONNECTING in notes:
        return QueueUnavailable("the store could not be reached in time: it did not accept the connection")
    return QueueUnavailable(f"the store gave no answer within {timeout_s:g} s")


def refusal(error: RedisError) -> str:
    """Return what an error reply of the store means."""
    return _meaning(error, "the URL's address") or f"the store refused the call: {error}"


def _reason(error: Exception) -> str:
    """Return the first cause in the chain that says something; the outermost error if none does."""
    named = _WHERE.search(str(error))
    where = named[1] if named else "the URL's address"
    return next(filter(None, (_meaning(link, where) for link in _links(error))), None) or (
        f"the connection to the store failed: {error}"
    )


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it; not far, for behind our own there may be the caller's."""
    link: BaseException | None = error
    for _ in range(_DEEPEST):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _meaning(error: BaseException, where: str) -> str | None:
    said = str(error)
    match error:
        case AuthenticationError() if "without any password configured" in said:
            return "the store has no password, but the URL names one: leave it out, or name its user as well"
        case AuthenticationError() | AuthenticationWrongNumberOfArgsError():
            return _NO_LOGIN if "required" in said.lower() else _LOGIN
        case NoPermissionError():
            return f"the store does not permit its user what a producer needs: {said}"
        case MasterNotFoundError() | AsyncMasterNotFoundError():
            return _no_master(said)
        case InvalidResponse():
            return f"what answers at {where} is no Redis: correct the host and port in the URL"
        case gaierror():
            return (
                f"the host name of the store is unknown ({where}): correct it in the URL, or check this machine's DNS"
            )
        case ConnectionRefusedError():
            return _refused(where)
        case FileNotFoundError():
            return f"the store has no socket at {where}: start it, or correct the path in the URL"
        case PermissionError():
            return f"this process may not use {where}: give its user access to it"
        case ssl.SSLCertVerificationError():
            return (
                f"the certificate of {where} is not trusted ({error.verify_message}): name its CA in the URL with "
                "?ssl_ca_certs=FILE, and the host as the certificate does"
            )
        case ssl.SSLError():
            return f"{where} speaks no TLS, or another version ({error.reason}): without TLS, write redis://"
        case RedisError():
            return next((meaning for part, meaning in _REPLIES.items() if part in said), None)
        case OSError() if "Errno 111" in said:  # asyncio, after several addresses of one name
            return _refused(where)
        case OSError(strerror=str(reason)):
            return f"{where} cannot be reached ({reason}): check the host in the URL, and the network"
        case _:
            return None


def _refused(where: str) -> str:
    return f"no store accepts connections at {where}: start it, or correct the host and port in the URL"


def _no_master(said: str) -> str:
    found = _MASTER.match(said)
    name = found[1] if found else "the URL's"
    if found and found[2]:  # behind it redis-py names each Sentinel that could not be asked
        return (
            f"no Sentinel could be asked for the master {name!r}: check that they run, and their addresses in the URL"
        )
    return f"no Sentinel knows a master called {name!r} that is up: correct the name at the end of the URL"


_REPLIES: Final = {
    "unauthenticated": _NO_LOGIN,  # what a large call gets instead of NOAUTH
    "DB index is out of range": "the store has no database of the URL's number: correct it, such as /0",
    "Invalid Database": "the store has no database of the URL's number: correct it, such as /0",
    "max number of clients": "the store takes no more connections: raise its maxclients, or lower max_connections",
    "Connection not ready": (
        "the store refused a new connection: it may have reached its maxclients, or the URL leads to something else"
    ),
    "Protocol error": "what answers at the URL's address is no Redis: correct the host and port in the URL",
    "Connection closed by server": (
        "the store closed the connection; if it does so each time, it may want TLS: write rediss://"
    ),
}
"""What replies and redis-py's own words mean, by a part of them."""
