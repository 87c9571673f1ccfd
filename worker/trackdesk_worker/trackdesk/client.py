"""Sending conversions: what a tenant's request looks like, and what comes back as a value."""

import json
import time
from collections.abc import Callable
from dataclasses import replace

from pyreqwest.http import Url

from trackdesk_producer.conversion.wire import query_string
from trackdesk_worker.trackdesk.endpoint import Endpoint, EndpointInvalid, PreparedEndpoint
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind, NotSent
from trackdesk_worker.trackdesk.failures import TROUBLE, failure_of
from trackdesk_worker.trackdesk.transport import Transport, client_builder

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
        self._max_body = max_body
        self._prepared: dict[str, PreparedEndpoint] = {}
        self._transport = Transport(
            lambda: client_builder(
                connect_timeout_s=connect_timeout_s,
                timeout_s=timeout_s,
                concurrency=concurrency,
                trust_env=trust_env,
            ).build()
        )

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        """Send one POST body, or the query that says the same; return what came back and the seconds it took.

        Returns within `timeout_s`. Of an answer's body it keeps `max_body` bytes, and never holds much more.
        Raises nothing for the network's or the server's trouble, nor for settings that name no address; `NotSent`
        for an error of this program before the request left. A cancellation passes.
        """
        try:
            prepared = self._prepared_for(tenant)
        except EndpointInvalid as error:
            return Failure(FailureKind.NO_ADDRESS, sent=False, detail=str(error)), 0.0
        except Exception as error:
            raise NotSent from error
        try:
            url = _address(prepared, body)
        except (ValueError, RecursionError) as error:
            return Failure(FailureKind.UNSENDABLE, sent=False, detail=type(error).__name__), 0.0
        except Exception as error:
            raise NotSent from error
        started = time.perf_counter()
        result: Answer | Failure
        try:
            result = await self._exchange(prepared, url, body)
        except TROUBLE as error:
            result = failure_of(error)
        return result, time.perf_counter() - started

    async def aclose(self) -> None:
        """Close the connections. Requests in flight fail."""
        await self._transport.aclose()

    async def _exchange(self, prepared: PreparedEndpoint, url: Url, body: bytes) -> Answer:
        endpoint, limit = prepared.endpoint, self._max_body
        answer = await self._transport.exchange(
            endpoint.method, url, prepared.headers, body if endpoint.method == "POST" else None, max_body=limit
        )
        redacted = _without_key(answer.body, endpoint.api_key)
        return answer if redacted is answer.body else replace(answer, body=redacted[:limit])

    def _prepared_for(self, tenant: str) -> PreparedEndpoint:
        endpoint = self._endpoint_for(tenant)
        prepared = self._prepared.get(tenant)
        if prepared is None or (prepared.endpoint is not endpoint and prepared.endpoint != endpoint):
            prepared = self._prepared[tenant] = PreparedEndpoint(endpoint, tenant)
        return prepared


def _address(prepared: PreparedEndpoint, body: bytes) -> Url:
    """Return the address for a POST body; raises ValueError if a query cannot be made from it."""
    if prepared.endpoint.method == "POST":
        return prepared.url
    return prepared.url.with_query_string(query_string(json.loads(body)))


def _without_key(body: bytes, api_key: str | None) -> bytes:
    """Redact a key that the server echoes: a job's history keeps part of each answer. Without one, return `body`."""
    if not api_key:
        return body
    for form in (api_key, json.dumps(api_key)[1:-1]):
        if (found := form.encode()) in body:
            body = body.replace(found, REDACTED)
    return body
