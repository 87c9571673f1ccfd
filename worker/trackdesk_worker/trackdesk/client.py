"""Sending conversions: httpx's types over pyreqwest's transport, chosen by measurement.

Requests go straight to the transport: httpx's `AsyncClient` adds cookies, redirects, hooks and auth, none of
which may ever happen to a conversion, and nearly doubles the processor time of an exchange.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from importlib.metadata import version
from typing import cast

import httpx
from pyreqwest.client import ClientBuilder
from pyreqwest.compatibility.httpx import HttpxTransport

from trackdesk_producer.contract.wire import query_string
from trackdesk_worker.trackdesk.endpoint import Endpoint, endpoint_url
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind
from trackdesk_worker.trackdesk.failures import TROUBLE, failure_of

__all__ = ["TrackdeskClient"]

MAX_BODY_BYTES = 16_384
REDACTED = b"[redacted]"


class TrackdeskClient:
    """Sends conversions to any number of tenants; one per process, for the process's life.

    `endpoint_for` is asked before every request, so that changed settings apply at once. At most
    `concurrency` requests are in flight, each over its own connection, which is kept for the next.
    """

    def __init__(
        self,
        endpoint_for: Callable[[str], Endpoint],
        *,
        connect_timeout_s: float,
        timeout_s: float,
        concurrency: int,
        max_body: int = MAX_BODY_BYTES,
        trust_env: bool = False,
    ) -> None:
        self._endpoint_for = endpoint_for
        self._timeout_s = timeout_s
        self._max_body = max_body
        self._prepared: dict[str, _Prepared] = {}
        self._transport = _transport(
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
            concurrency=concurrency,
            trust_env=trust_env,
        )

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        """Send one POST body, or the query that says the same; return what came back and the seconds it took.

        Returns within `timeout_s`. Of an answer's body it keeps `max_body` bytes, and never holds much more.
        Raises nothing for the network's or the server's trouble; `EndpointInvalid` for settings that name no
        endpoint. A cancellation passes.
        """
        prepared = self._prepared_for(tenant)
        try:
            request = prepared.request(body)
        except (ValueError, RecursionError, httpx.InvalidURL) as error:
            return Failure(FailureKind.UNSENDABLE, sent=False, detail=type(error).__name__), 0.0
        started = time.perf_counter()
        result: Answer | Failure
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._exchange(request, prepared.endpoint.api_key)
        except TROUBLE as error:
            result = failure_of(error)
        return result, time.perf_counter() - started

    async def aclose(self) -> None:
        """Close the connections. Requests in flight fail."""
        await self._transport.aclose()

    async def _exchange(self, request: httpx.Request, api_key: str | None) -> Answer:
        try:
            response = await self._transport.handle_async_request(request)
        except ValueError as error:  # the transport cannot hold a header that is not ASCII
            raise httpx.RemoteProtocolError("the answer has a malformed header", request=request) from error
        try:
            body = await self._read_bounded(response)
        finally:
            await response.aclose()
        headers = response.headers
        headers.encoding = "latin-1"  # else httpx tries several encodings over all headers at every look
        return Answer(
            status=response.status_code,
            content_type=headers.get("content-type", ""),
            retry_after=headers.get("retry-after"),
            body=_without_key(body, api_key)[: self._max_body],
            truncated=len(body) > self._max_body,
        )

    async def _read_bounded(self, response: httpx.Response) -> bytes:
        """Read at most one chunk more than may be kept; what follows dies with the connection."""
        body = b""
        chunks = cast("AsyncGenerator[bytes, None]", aiter(cast("httpx.AsyncByteStream", response.stream)))
        async with aclosing(chunks):
            async for chunk in chunks:
                body += chunk
                if len(body) > self._max_body:
                    break
        return body

    def _prepared_for(self, tenant: str) -> "_Prepared":
        endpoint = self._endpoint_for(tenant)
        prepared = self._prepared.get(tenant)
        if prepared is None or prepared.endpoint != endpoint:
            prepared = self._prepared[tenant] = _Prepared(endpoint, tenant)
        return prepared


class _Prepared:
    """What every request to one endpoint has in common, built once."""

    def __init__(self, endpoint: Endpoint, tenant: str) -> None:
        self.endpoint = endpoint
        self._url = endpoint_url(endpoint.base_url, tenant)
        self._parsed_url = httpx.URL(self._url)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if endpoint.method == "POST":
            headers["content-type"] = "application/json"
        if endpoint.api_key:
            headers["x-api-key"] = endpoint.api_key
        self._headers = httpx.Headers(headers, encoding="ascii")

    def request(self, body: bytes) -> httpx.Request:
        """Return the request for a POST body; raises ValueError if a query cannot be made from it."""
        if self.endpoint.method == "POST":
            return _PreparedRequest("POST", self._parsed_url, self._headers, body)
        url = httpx.URL(f"{self._url}?{query_string(json.loads(body))}")
        return _PreparedRequest("GET", url, self._headers, b"")


class _PreparedRequest(httpx.Request):
    """A request that shares its parsed address and headers with its siblings.

    httpx's own constructor copies and completes both every time, a tenth of an exchange's processor time. The
    transport adds Host and Content-Length.
    """

    def __init__(self, method: str, url: httpx.URL, headers: httpx.Headers, body: bytes) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.extensions = {}
        self.stream = httpx.ByteStream(body)
        self._body = body

    @property
    def content(self) -> bytes:
        """The body, always at hand."""
        return self._body


def _without_key(body: bytes, api_key: str | None) -> bytes:
    """Blot out the key should the server echo it: answers are kept with the job, and shown."""
    if not api_key:
        return body
    for form in (api_key, json.dumps(api_key)[1:-1]):
        body = body.replace(form.encode(), REDACTED)
    return body


def _transport(*, connect_timeout_s: float, timeout_s: float, concurrency: int, trust_env: bool) -> HttpxTransport:
    builder = (
        ClientBuilder()
        .user_agent(f"trackdesk-worker/{version('trackdesk-worker')}")
        .connect_timeout(timedelta(seconds=connect_timeout_s))
        .read_timeout(timedelta(seconds=timeout_s))
        .timeout(timedelta(seconds=timeout_s))
        .pool_timeout(timedelta(seconds=connect_timeout_s))
        .max_connections(concurrency)
        .pool_max_idle_per_host(concurrency)
        .http1_only()
        .follow_redirects(False)
        .referer(False)
        .default_cookie_store(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
    )
    if not trust_env:
        builder = builder.no_proxy()
    return HttpxTransport(builder.build())
