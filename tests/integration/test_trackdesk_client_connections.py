"""Kept connections: closed by the server, grown old, and led elsewhere by a change of DNS."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pyreqwest.client import Client
from pyreqwest.http import Url

from tests.support.raw_http import RawRequest, RawServer, always, answer, raw_server
from tests.support.waiting import let_pass_async, until
from trackdesk_worker.trackdesk import transport
from trackdesk_worker.trackdesk.exchange import Answer
from trackdesk_worker.trackdesk.transport import RENEWED_AFTER_S, Transport, client_builder

PAIRED = Answer(200, "", None, b'{"cid":"x"}')


def opened() -> Client:
    return client_builder(connect_timeout_s=2, timeout_s=5, concurrency=8, trust_env=False).build()


async def sent(client: Transport, server: RawServer, host: str = "127.0.0.1") -> Answer:
    return await client.exchange("POST", Url(f"http://{host}:{server.port}/"), (), b"{}", max_body=100)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_connection_the_server_closes_at_rest_costs_no_attempt() -> None:
    async with raw_server(always(answer(PAIRED.body), close=True)) as server:
        client = Transport(opened)
        for number in range(1, 11):
            assert await sent(client, server) == PAIRED
            await until(lambda: server.given_up == number, "the client has noticed")  # noqa: B023 - awaited at once
        await client.aclose()
        assert (server.connections, len(server.requests)) == (10, 10)


async def test_a_connection_at_rest_is_given_up_before_a_server_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_S", 0.2)
    async with raw_server(always(answer(PAIRED.body))) as server:
        client = Transport(opened)
        for pause_s in (0.0, 0.4, 0.0):
            await sent(client, server)
            await let_pass_async(pause_s)
        await client.aclose()
        assert server.connections == 2


async def test_connections_are_renewed_and_requests_under_way_end_on_the_old_ones() -> None:
    arrived, release = asyncio.Event(), asyncio.Event()

    async def first_waits(request: RawRequest, writer: asyncio.StreamWriter) -> None:
        if request is server.requests[0]:
            arrived.set()
            await release.wait()
        writer.write(answer(PAIRED.body))

    clock = Clock()
    async with raw_server(first_waits) as server:
        client = Transport(opened, clock=clock)
        under_way = asyncio.ensure_future(sent(client, server))
        await arrived.wait()
        clock.now += RENEWED_AFTER_S
        for _ in range(3):
            assert await sent(client, server) == PAIRED
        assert server.connections == 2
        release.set()
        assert await under_way == PAIRED
        await client.aclose()


@pytest.mark.parametrize("what_happens", ["the connections grow old", "the server closes"])
def test_a_change_of_dns_is_followed(tmp_path: Path, what_happens: str) -> None:
    """In a namespace with an `/etc/hosts` of its own, so that it is the system's resolver that is asked."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 shop.test\n")
    unshare = ["unshare", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system lets us have no namespace of our own")
    mount_and_run = 'mount --bind "$0" /etc/hosts && exec "$@"'
    command = [
        *unshare,
        "sh",
        "-c",
        mount_and_run,
        str(hosts),
        sys.executable,
        "-m",
        __name__,
        str(hosts),
        what_happens,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


async def _follow(move: Callable[[], object], what_happens: str) -> None:
    here: list[asyncio.StreamWriter] = []

    async def old(_: RawRequest, writer: asyncio.StreamWriter) -> None:
        here.append(writer)
        writer.write(answer(b"old"))

    clock = Clock()
    async with raw_server(old) as server:
        new = await asyncio.start_server(_answer_new, "127.0.0.2", server.port)
        client = Transport(opened, clock=clock)
        assert (await sent(client, server, "shop.test")).body == b"old"
        move()
        assert (await sent(client, server, "shop.test")).body == b"old", "a kept connection leads where it led"
        if what_happens == "the server closes":
            here[0].write_eof()
            await until(lambda: server.given_up == 1, "the client has noticed")
        else:
            clock.now += RENEWED_AFTER_S
        assert (await sent(client, server, "shop.test")).body == b"new"
        await client.aclose()
        new.close()


async def _answer_new(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(answer(b"new"))


if __name__ == "__main__":
    asyncio.run(_follow(lambda: Path(sys.argv[1]).write_text("127.0.0.2 shop.test\n"), sys.argv[2]))
