"""Which names the console answers to, which pages may send it forms, and whose word on a user counts. Pure."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from trackdesk_worker.config.settings import Network

Headers = Mapping[str, str]
"""Headers of a request, by their names in lower case."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the console is."""

    url: str | None = None
    """The address people use, if a proxy stands before it."""
    proxies: tuple[Network, ...] = ()

    def answers_to(self, host: str | None) -> bool:
        """Return whether a Host header names this console.

        Any other name is somebody's who made it point here, to have a browser read us as theirs (DNS rebinding). An
        address is nobody's name, so every one will do.
        """
        name = _host_name(host or "")
        if name in ("localhost", self._public_name):
            return name is not None
        return name is not None and _is_address(name)

    def sent_by_own_page(self, headers: Headers, scheme: str) -> bool:
        """Return whether a browser says that one of our pages sent a request.

        Browsers tell it in Sec-Fetch-Site; where that is absent, Origin has to be ours. Neither: not our page.
        """
        told = headers.get("sec-fetch-site")
        if told is not None:
            return told == "same-origin"
        origin = headers.get("origin")
        if origin is None:
            return False
        return origin in (f"{scheme}://{headers.get('host')}", self._public_origin)

    def browser_sent(self, headers: Headers) -> bool:
        """Return whether a page in a browser may have sent a request that changes something."""
        return any(headers.get(name) is not None for name in ("sec-fetch-site", "sec-fetch-mode", "origin", "cookie"))

    def trusts(self, peer: str | None) -> bool:
        """Return whether the peer is a proxy whose word counts."""
        if peer is None:
            return False
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.proxies)

    def secure(self, scheme: str) -> bool:
        """Return whether the browser reaches us over TLS."""
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
    """Return whether an interface can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""What proxies add: a request that carries one did not begin on this machine."""


def was_forwarded(headers: Headers) -> bool:
    """Return whether a request came through a proxy, as far as that can be seen."""
    return any(headers.get(name) is not None for name in FORWARDED)


def _host_name(host: str) -> str | None:
    """Return the name in a Host header, without the port; None if there is none."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 - reading it checks it
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
