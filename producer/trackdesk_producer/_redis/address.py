"""Where the store is: one server, or the Sentinels that know which server is the master just now.

| form | meaning |
|---|---|
| ``redis://user:password@host:6379/0`` | one server |
| ``rediss://…?ssl_ca_certs=/path/ca.pem`` | the same over TLS, checked against this CA |
| ``unix:///path/socket`` | a socket on this machine |
| ``sentinel://user:password@host:26379,host:26379/name`` | the master called `name`; the login is the servers' |
| ``sentinels://…?ssl_ca_certs=/path/ca.pem`` | the same over TLS, to Sentinels and servers |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.connection import parse_url

SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
SENTINEL_PORT = 26379
_WRITE = "write it as redis://user:password@host:port/0, with reserved characters of the password percent-encoded"
_WRITE_SENTINEL = "write it as sentinel://user:password@host:port,host:port/master"


class AddressInvalid(ValueError):
    """No address of a store; the message never repeats it: what looks like a port may be half a password."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address, taken apart."""

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    """The server or the Sentinels; none for a socket."""
    options: Mapping[str, Any] = field(repr=False)
    """What a connection to a server needs, in redis-py's words; without the host behind Sentinels."""
    master: str | None = None
    """Name of the master; None without Sentinels."""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme in ("rediss", "sentinels")

    @property
    def tls_options(self) -> dict[str, Any]:
        """The part of `options` that is about TLS; what is checked of a certificate, and against which CA."""
        return {name: value for name, value in self.options.items() if name.startswith("ssl_")}

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """The Sentinels, with their ports."""
        return [(host, port or SENTINEL_PORT) for host, port in self.hosts]


def parse_address(url: str) -> Address:
    """Take an address apart.

    Raises:
        AddressInvalid: when it is none; the message says how to write it.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise AddressInvalid("must start with " + ", ".join(f"{name}://" for name in SCHEMES[:-1]) + " or sentinels://")
    try:
        parts = urlsplit(url)
        if scheme in ("sentinel", "sentinels"):
            return _sentinel(parts)
        options = parse_url(url)
        options.pop("connection_class", None)
        if parts.port == 0:
            raise AddressInvalid(_WRITE)
        hosts = () if scheme == "unix" else ((parts.hostname or "localhost", parts.port),)
        return Address(scheme, hosts, options)
    except AddressInvalid:
        raise
    except ValueError:
        raise AddressInvalid(_WRITE_SENTINEL if scheme.startswith("sentinel") else _WRITE) from None


def _sentinel(parts: SplitResult) -> Address:
    master, _, db = unquote(parts.path).strip("/").partition("/")
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    if not master or not all(host.hostname for host in hosts):
        raise AddressInvalid(_WRITE_SENTINEL)
    options: dict[str, Any] = {"db": int(db or 0), **parse_url(f"redis:///?{parts.query}")}
    if any(not name.startswith("ssl_") and name != "db" for name in options):
        raise AddressInvalid("takes only options that begin with ssl_ behind the question mark")
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    return Address(parts.scheme, tuple((host.hostname or "", host.port) for host in hosts), options, master)
