"""Where the store is: one server, or the Sentinels that know which server is the master just now.

| form | meaning |
|---|---|
| ``redis://user:password@host:6379/0`` | one server |
| ``rediss://…?ssl_ca_certs=/path/ca.pem`` | the same over TLS, checked against this CA |
| ``unix:///path/socket`` | a socket on this machine |
| ``sentinel://user:password@host:26379,host:26379/name`` | the master called `name`; the login is the servers' |
| ``sentinels://…?ssl_ca_certs=/path/ca.pem`` | the same over TLS, to Sentinels and servers |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.connection import parse_url

from trackdesk_producer.errors import OptionInvalid

SCHEMES = ("redis", "rediss", "unix", "sentinel", "sentinels")
SENTINEL_PORT = 26379
_WRITE = (
    "must be written as redis://user:password@host:port/0, with reserved characters of the password percent-encoded"
)
_WRITE_SENTINEL = "must be written as sentinel://user:password@host:port,host:port/master"
_DATABASE = re.compile(r"(/[0-9]{0,9})?")


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


def parse_address(url: Any) -> Address:
    """Take an address apart.

    Raises:
        OptionInvalid: when it is none; the message says how to write it.
    """
    if url is None:
        raise OptionInvalid("url", "must be given, such as redis://host:6379/0, not None")
    if not isinstance(url, str):
        rule = f"must be text such as redis://host:6379/0, not a value of type {type(url).__name__}"
        raise OptionInvalid("url", rule)
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        starts = ", ".join(f"{name}://" for name in SCHEMES[:-1])
        raise OptionInvalid("url", f"must start with {starts} or sentinels://")
    try:
        parts = urlsplit(url)
        if parts.fragment or "@" in parts.query:  # a '#' or '?' of the password
            raise OptionInvalid("url", _WRITE)
        if scheme in ("sentinel", "sentinels"):
            return _sentinel(parts)
        if scheme != "unix" and not _DATABASE.fullmatch(parts.path):  # redis-py would take database 0
            raise OptionInvalid("url", "must end in the number of a database, such as redis://host:6379/0")
        options = parse_url(url)
        options.pop("connection_class", None)
        if parts.port == 0:
            raise OptionInvalid("url", _WRITE)
        hosts = () if scheme == "unix" else ((parts.hostname or "localhost", parts.port),)
        return Address(scheme, hosts, options)
    except OptionInvalid:
        raise
    except ValueError:
        raise OptionInvalid("url", _WRITE_SENTINEL if scheme.startswith("sentinel") else _WRITE) from None


def _sentinel(parts: SplitResult) -> Address:
    master, _, db = unquote(parts.path).strip("/").partition("/")
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    if not master or not all(host.hostname for host in hosts):
        raise OptionInvalid("url", _WRITE_SENTINEL)
    options: dict[str, Any] = {"db": int(db or 0), **parse_url(f"redis:///?{parts.query}")}
    if any(not name.startswith("ssl_") and name != "db" for name in options):
        raise OptionInvalid("url", "takes only options that begin with ssl_ behind the question mark")
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    return Address(parts.scheme, tuple((host.hostname or "", host.port) for host in hosts), options, master)
