"""Where a tenant's conversions go. The one place that knows the path and fills the tenant into an address."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import httpx
from pyreqwest.http import HeaderMap, Url

CONVERSION_PATH = "/tracking/conversion/v1"

_TENANT_PLACEHOLDER = "{tenant}"
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)


class EndpointInvalid(ValueError):
    """A base address or a tenant that no request may be built from. The text is one plain sentence."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to reach one tenant. `base_url` may still hold the placeholder `{tenant}`; the key is never shown."""

    base_url: str
    method: Literal["POST", "GET"] = "POST"
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        key = self.api_key or ""
        if not (key.isascii() and key.isprintable()) or key != key.strip():
            raise EndpointInvalid("the API key must be plain characters without blanks around it")


def endpoint_url(base_url: str, tenant: str) -> str:
    """Return the full address of the tenant's conversion endpoint, or raise `EndpointInvalid`.

    The tenant must be one DNS label, so that it cannot steer a request to another host.
    """
    if not _DNS_LABEL.fullmatch(tenant):
        raise EndpointInvalid("the tenant must be one DNS label: letters, digits and inner hyphens, up to 63")
    try:
        url = httpx.URL(base_url.replace(_TENANT_PLACEHOLDER, tenant).rstrip("/") + CONVERSION_PATH)
        host = url.host  # decodes an international name
    except (httpx.InvalidURL, ValueError) as error:
        raise EndpointInvalid(f"the base URL is not an address: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise EndpointInvalid("the base URL must begin with http:// or https:// and name a host")
    if url.port is not None and not 0 < url.port < 65_536:
        raise EndpointInvalid("the base URL must name a port from 1 to 65535, or none")
    if url.userinfo or url.query or url.fragment:
        raise EndpointInvalid("the base URL must not hold a user, a query or a fragment")
    return str(url)


class PreparedEndpoint:
    """What every request to one tenant has in common, built once, of the parts that the client sends.

    Building one is how settings are checked: what the client would refuse is `EndpointInvalid` here.
    """

    __slots__ = ("endpoint", "headers", "url")

    def __init__(self, endpoint: Endpoint, tenant: str) -> None:
        self.endpoint = endpoint
        headers = {}
        if endpoint.method == "POST":
            headers["content-type"] = "application/json"
        if endpoint.api_key:
            headers["x-api-key"] = endpoint.api_key
        self.headers: Sequence[tuple[str, str]] = tuple(headers.items())
        url = endpoint_url(endpoint.base_url, tenant)
        try:
            self.url = Url(url)
        except ValueError as error:
            raise EndpointInvalid(f"the base URL is not an address: {error}") from error
        try:
            HeaderMap(self.headers)
        except ValueError as error:  # its text holds the key
            raise EndpointInvalid("the API key cannot be sent as a header") from error
