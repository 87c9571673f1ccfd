"""A store that keeps its connections and says nothing: every client of ours gives up in time."""

import time

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.support.fault_proxy import fault_proxy
from trackdesk_producer._redis.connections import open_async_client, open_client
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.process import bootstrap

ANSWER_S = 0.3
SLACK_S = 2.0


def test_a_blocking_client_gives_up_after_its_answer_time(valkey: EmbeddedServer) -> None:
    with (
        fault_proxy(valkey.port) as proxy,
        open_client(f"redis://127.0.0.1:{proxy.port}/0", socket_timeout=ANSWER_S) as client,
    ):
        client.ping()
        proxy.half_open()

        started = time.monotonic()
        with pytest.raises(RedisTimeoutError):
            client.info("memory")

        assert ANSWER_S * 0.9 < time.monotonic() - started < ANSWER_S + SLACK_S


async def test_an_asyncio_client_gives_up_after_its_answer_time(valkey: EmbeddedServer) -> None:
    with fault_proxy(valkey.port) as proxy:
        async with open_async_client(f"redis://127.0.0.1:{proxy.port}/0", socket_timeout=ANSWER_S) as client:
            await client.ping()
            proxy.half_open()

            started = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                await client.info("memory")

            assert ANSWER_S * 0.9 < time.monotonic() - started < ANSWER_S + SLACK_S


def test_the_client_of_maintenance_and_commands_has_an_answer_time(valkey: EmbeddedServer) -> None:
    with fault_proxy(valkey.port) as proxy:
        settings = load_settings(redis_url=f"redis://127.0.0.1:{proxy.port}/0", tenant="acme")
        with bootstrap.open_store(settings) as store:
            store.client.ping()
            proxy.half_open()

            started = time.monotonic()
            with pytest.raises(RedisTimeoutError):
                store.client.ping()

            assert time.monotonic() - started < bootstrap.ANSWER_TIMEOUT_S + SLACK_S
