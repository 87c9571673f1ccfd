"""Which Host headers the console accepts, which pages may send forms, and which proxies are trusted. Pure."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from trackdesk_worker.config.settings import Network

Headers = Mapping[str, str]
"""Request headers, by lower-case name."""


@dataclass(frozen=True, slots=True)
class Site:
    """The public address of the console, and its trusted proxies."""

    url: str | None = None
    """The public URL, if it differs from the address the console listens on."""
    proxies: tuple[Network, ...] = ()

    def answers_to(self, host: str | None) -> bool:
        """Return whether a Host header names this console.

        Other names are refused against DNS rebinding: an attacker's name that resolves to this console. An IP address
        cannot be rebound, so all are accepted.
        """
        name = _host_name(host or "")
        if name in ("localhost", self._public_name):
            return name is not None
        return name is not None and _is_address(name)

    def sent_by_own_page(self, headers: Headers, scheme: str) -> bool:
        """Return whether a page of this console sent the request.

        Sec-Fetch-Site decides where it is present, else Origin; without either the answer is no.
        """
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site == "same-origin"
        origin = headers.get("origin")
        if origin is None:
            return False
        return origin in (f"{scheme}://{headers.get('host')}", self._public_origin)

    def browser_sent(self, headers: Headers) -> bool:
        """Return whether the request may come from a page in a browser."""
        return any(headers.get(name) is not None for name in ("sec-fetch-site", "sec-fetch-mode", "origin", "cookie"))

    def trusts(self, peer: str | None) -> bool:
        """Return whether the peer is a trusted proxy."""
        if peer is None:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.proxies)

    def secure(self, scheme: str) -> bool:
        """Return whether browsers use TLS to reach the console."""
        return scheme == "https" or (self.url or "").startswith("https://")

    @property
    def _public_origin(self) -> str | None:
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def _public_name(self) -> str | None:
        return None if self.url is None else urlsplit(self.url).hostname


def is_loopback(host: str) -> bool:
    """Return whether `host` is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that proxies add."""


def was_forwarded(headers: Headers) -> bool:
    """Return whether a request carries a header that proxies add."""
    return any(headers.get(name) is not None for name in FORWARDED)


def _host_name(host: str) -> str | None:
    """Return the host name of a Host header, without the port; None if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - reading it validates it
    except ValueError:
        return None
    if not host or parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    return parts.hostname


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
