"""A tracing setup that fails costs a shop its spans, never a sale."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace

from trackdesk_producer import AsyncProducer, Producer, QueueUnavailable, tracing
from trackdesk_producer.contract.keys import Keys

SALE = {"external_id": "o-1", "conversion_type_code": "sale", "cid": "c-1"}


class BrokenSpan:
    """A span of which one method fails."""

    def __init__(self, broken: str) -> None:
        self._broken = broken

    def __getattr__(self, name: str) -> Any:
        def method(*_: Any, **__: Any) -> Any:
            if name == self._broken:
                raise RuntimeError(f"planted: {name}")
            return trace.INVALID_SPAN_CONTEXT if name == "get_span_context" else name == "is_recording"

        return method


class BrokenProvider(trace.TracerProvider):
    """What a shop installed, and what fails in it."""

    def __init__(self, broken: str) -> None:
        self._broken = broken

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        if self._broken == "get_tracer":
            raise RuntimeError("planted: get_tracer")
        return self

    def start_span(self, *_: Any, **__: Any) -> Any:
        if self._broken == "start_span":
            raise RuntimeError("planted: start_span")
        return BrokenSpan(self._broken)


BROKEN = ("get_tracer", "start_span", "get_span_context", "is_recording", "set_attribute", "set_status", "end")


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    provider = BrokenProvider(request.param)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    tracing._tracer.cache_clear()
    yield
    tracing._tracer.cache_clear()


@pytest.mark.usefixtures("broken")
def test_a_sale_is_accepted_whatever_fails_in_the_shops_tracing(server: Any, keys: Keys) -> None:
    with Producer(server.url, namespace=keys.namespace, tenant="acme") as producer:
        assert producer.enqueue(SALE).status == "accepted"
        assert [receipt.status for receipt in producer.enqueue_many([SALE])] == ["duplicate"]


@pytest.mark.usefixtures("broken")
async def test_an_asyncio_shop_too(server: Any, keys: Keys) -> None:
    async with AsyncProducer(server.url, namespace=keys.namespace, tenant="acme") as producer:
        assert (await producer.enqueue(SALE)).status == "accepted"


@pytest.mark.usefixtures("broken")
def test_an_error_of_the_store_stays_the_stores_own() -> None:
    with (
        Producer("redis://127.0.0.1:1/0", tenant="acme", timeout_s=0.5) as producer,
        pytest.raises(QueueUnavailable),
    ):
        producer.enqueue(SALE)
