"""One bounded HTTP exchange, as fast as this machine allows: pyreqwest's own requests, with failures as httpx's errors.

httpx's `AsyncClient`, and pyreqwest's transport for it, build a request, a response and a stream object an exchange;
without them it costs half the processor time (72 µs instead of 136, `tests/benchmarks/RESULTS.md`). Redirects, cookies
and inflation, none of which may ever happen to a conversion, are off.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.metadata import version

import httpx
from pyreqwest import exceptions
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.http import Url

from trackdesk_worker.trackdesk.exchange import Answer

IDLE_S = 30.0
"""A kept connection that idles longer is closed by us: servers close theirs after 60 s or more, and a request that
crosses such a close on the wire may have landed."""
RENEWED_AFTER_S = 300.0
"""A busy connection never idles, so it would outlive any change of DNS. From then on requests get new connections, and
with them the name's present addresses."""

_HTTPX_ERRORS: tuple[tuple[type[exceptions.PyreqwestError], type[httpx.RequestError]], ...] = (
    (exceptions.ConnectTimeoutError, httpx.ConnectTimeout),
    (exceptions.ReadTimeoutError, httpx.ReadTimeout),
    (exceptions.WriteTimeoutError, httpx.WriteTimeout),
    (exceptions.PoolTimeoutError, httpx.PoolTimeout),
    (exceptions.RequestTimeoutError, httpx.TimeoutException),
    (exceptions.ConnectError, httpx.ConnectError),
    (exceptions.ReadError, httpx.ReadError),
    (exceptions.WriteError, httpx.WriteError),
    (exceptions.NetworkError, httpx.NetworkError),
    (exceptions.DecodeError, httpx.DecodingError),
)
"""The first that fits counts: from the special to the general."""


class Transport:
    """The connections of one process. At most `concurrency` requests are in flight, each over a connection of its own.

    `opened` makes the client behind it, again every `RENEWED_AFTER_S`.
    """

    def __init__(self, opened: Callable[[], Client], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._opened = opened
        self._clock = clock
        self._client = opened()
        self._renew_at = clock() + RENEWED_AFTER_S

    async def exchange(
        self, method: str, url: Url, headers: Sequence[tuple[str, str]], body: bytes | None, *, max_body: int
    ) -> Answer:
        """Send one request and read its answer; of its body at most `max_body` bytes are kept.

        Raises httpx's errors, with the cause kept. Ends within the client's total timeout, from the wait for a free
        connection to the last byte (`tests/integration/test_trackdesk_client_failures.py`).
        """
        if self._clock() >= self._renew_at:
            self._renew()
        builder = self._client.request(method, url).headers(headers).streamed_read_buffer_limit(max_body + 1)
        if body is not None:
            builder = builder.body_bytes(body)
        try:
            async with builder.build_streamed() as response:
                # Has arrived already: up to the limit, the head and the body are one wait.
                begun = await response.body_reader.read(max_body + 1)
                try:
                    content_type, retry_after = response.get_header("content-type"), response.get_header("retry-after")
                except ValueError as error:  # not ASCII
                    raise httpx.RemoteProtocolError("the answer has a malformed header") from error
                received = begun.to_bytes() if begun else b""
                truncated = len(received) > max_body
                return Answer(
                    response.status, content_type or "", retry_after, received[:max_body], truncated=truncated
                )
        except exceptions.PyreqwestError as error:
            for own, translated in _HTTPX_ERRORS:
                if isinstance(error, own):
                    raise translated(error.message) from error
            raise

    async def aclose(self) -> None:
        """Close the connections. Requests in flight fail."""
        await self._client.close()

    def _renew(self) -> None:
        # The client before ends with the last of its requests: only they still hold it.
        self._client = self._opened()
        self._renew_at = self._clock() + RENEWED_AFTER_S


def client_builder(*, connect_timeout_s: float, timeout_s: float, concurrency: int, trust_env: bool) -> ClientBuilder:
    """Return what makes a client for conversions."""
    builder = (
        ClientBuilder()
        .user_agent(f"trackdesk-worker/{version('trackdesk-worker')}")
        .default_headers({"accept": "application/json", "accept-encoding": "identity"})
        .connect_timeout(timedelta(seconds=connect_timeout_s))
        .timeout(timedelta(seconds=timeout_s))
        .pool_timeout(timedelta(seconds=connect_timeout_s))
        .pool_idle_timeout(timedelta(seconds=IDLE_S))
        .max_connections(concurrency)
        .pool_max_idle_per_host(concurrency)
        .http1_only()  # HTTP/2 saves 3 % and puts all requests on one connection: RESULTS.md has the figures
        .follow_redirects(False)
        .referer(False)
        .default_cookie_store(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
    )
    return builder if trust_env else builder.no_proxy()
