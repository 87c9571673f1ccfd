"""The delivery loop on a real store, with a sender that the test is."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import pytest
import redis
import redis.asyncio
import structlog

from tests.support.store import UNLIMITED, Item, Store
from tests.support.waiting import let_pass, let_pass_async, until
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State, external_id_of
from trackdesk_producer.contract.runner import Replies
from trackdesk_producer.contract.scripts import ScriptCall
from trackdesk_worker.config.tenants import TenantSettings
from trackdesk_worker.delivery import loop as delivery
from trackdesk_worker.delivery.attempt import Attempts
from trackdesk_worker.delivery.loop import DeliveryConfig, DeliveryLoop
from trackdesk_worker.domain.claim import Settlement
from trackdesk_worker.domain.limits import Breaker, Shares
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.telemetry.health import Health
from trackdesk_worker.telemetry.logging import BufferedLog
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint
from trackdesk_worker.trackdesk.exchange import Answer, Failure, NotSent

PAIRED = Answer(200, "application/json", None, b'{"cid":"x"}')
DEADLINE_S = 10.0


class Sender:
    """Answers as the test says, and queues each body that came."""

    def __init__(self, answer: Callable[[bytes], Awaitable[Answer]]) -> None:
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._answer = answer

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        self.arrived.put_nowait(body)
        return await self._answer(body), 0.1


@contextlib.asynccontextmanager
async def running(
    server: EmbeddedServer,
    keys: Keys,
    sender: Sender,
    *,
    concurrency: int = 8,
    lease_ms: int = 30_000,
    timeout_s: float = 10.0,
    lines: list[str] | None = None,
    log: Any = None,
    policy: Policy = Policy(),
) -> AsyncIterator[DeliveryLoop]:
    """A loop at work until the block ends; what it logs of attempts goes to `lines`."""
    lines = [] if lines is None else lines
    settings = TenantSettings(UNLIMITED, Endpoint("https://trackdesk.test"), policy, CreatedAt.NEVER, False)
    metrics = WorkerMetrics()
    async with redis.asyncio.Redis(port=server.port) as client:
        loop = DeliveryLoop(
            store=AsyncJobStore(client, keys),
            attempts=Attempts(
                sender=sender,
                settings_for=lambda _: settings,
                metrics=metrics,
                log=BufferedLog("test", lines.append),
                rng=random.Random(1),
            ),
            config=DeliveryConfig(concurrency, lease_ms, timeout_s, 60_000, UNLIMITED, Shares().slots(), Breaker()),
            metrics=metrics,
            health=Health(),
            log=log or structlog.get_logger(),
        )
        task = asyncio.ensure_future(loop.run())
        loop.wake()
        try:
            yield loop
        finally:
            loop.stop_claiming()
            await asyncio.wait_for(task, DEADLINE_S)


async def test_a_request_that_outlives_its_lease_gives_its_place_to_the_next(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    hung = False

    async def first_hangs(_: bytes) -> Answer:
        nonlocal hung
        if not hung:
            hung = True
            await asyncio.Event().wait()
        return PAIRED

    sender = Sender(first_hangs)
    Store(client, keys).enqueue("acme/1", "acme/2")
    async with (
        asyncio.timeout(DEADLINE_S),
        running(server, keys, sender, concurrency=1, lease_ms=700, timeout_s=0.1) as loop,
    ):
        await sender.arrived.get()
        await let_pass_async(0.8)  # the lease ends; without the wake-up the loop would look within two seconds
        loop.wake()
        await sender.arrived.get()


async def test_a_claim_whose_lease_has_become_too_short_is_given_back_and_claimed_again(
    server: EmbeddedServer, client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[tuple[float, int]] = []
    right = AsyncJobStore.run_raw

    async def held_up(store: AsyncJobStore, operations: Sequence[ScriptCall[Any]]) -> Replies:
        began = time.monotonic()
        replies = await right(store, operations)
        tokens = [reply[3] for operation, reply in zip(operations, replies, strict=True) if len(reply) > 2]
        if tokens:
            claimed.append((began, int(tokens[0])))
            if len(claimed) == 1:
                let_pass(0.6)  # as if the process were stopped
        return replies

    async def answer(_: bytes) -> Answer:
        sent_at.append(time.monotonic())
        return PAIRED

    sent_at: list[float] = []
    monkeypatch.setattr(AsyncJobStore, "run_raw", held_up)
    sender = Sender(answer)
    store = Store(client, keys)
    store.enqueue("acme/1")
    async with asyncio.timeout(DEADLINE_S), running(server, keys, sender, lease_ms=2_000, timeout_s=1.0) as loop:

        def sent() -> bool:
            loop.wake()
            return bool(sent_at)

        await until(sent, "it is sent")
    assert len(claimed) == 2
    assert len(sent_at) == 1
    assert sent_at[0] - claimed[1][0] < 0.5, "with less than its timeout left it would have been given back again"
    record = store.record("acme/1")
    assert (record.state, record.attempts_total) == (State.DELIVERED, 1)


async def test_claims_that_came_with_a_refused_settlement_are_sent_all_the_same(
    server: EmbeddedServer, client: redis.Redis, keys: Keys
) -> None:
    async def paired(_: bytes) -> Answer:
        return PAIRED

    sender = Sender(paired)
    store = Store(client, keys)
    store.enqueue("acme/1")
    async with asyncio.timeout(DEADLINE_S), running(server, keys, sender, lease_ms=3_600_000, concurrency=1) as loop:
        settle = loop._store.jobs.settle
        refusals = 0

        def refused_once(settlements: list[Settlement], **options: Any) -> Any:
            nonlocal refusals
            refusals += 1
            if refusals == 1:
                store.enqueue("acme/2", "acme/3")
                loop._claim_now()
                return settle([settlements[0]._replace(reason="no word")], **options)
            return settle(settlements, **options)

        loop._store.jobs.settle = refused_once  # type: ignore[method-assign, assignment]
        for _ in range(3):
            await sender.arrived.get()
    assert [store.record(f"acme/{n}").state for n in (1, 2, 3)] == [State.DELIVERED] * 3
    assert sender.arrived.empty()


async def test_a_store_that_refuses_every_call_is_asked_less_and_less_often_and_logged_once_a_trip(
    own_server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def paired(_: bytes) -> Answer:
        with redis.Redis(port=own_server.port) as client:
            client.replicaof("127.0.0.1", 1)
        return PAIRED

    first_s = 0.02
    monkeypatch.setattr(delivery, "STORE_RETRY_S", (first_s, 10.0))
    refused_at: list[float] = []

    def note(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        if event["event"] == "store.unavailable":
            refused_at.append(time.monotonic())
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[note])
    with redis.Redis(port=own_server.port) as client:
        Store(client, keys).enqueue("acme/1", "acme/2", "acme/3")
        async with asyncio.timeout(DEADLINE_S), running(own_server, keys, Sender(paired), log=log) as loop:
            while len(refused_at) < 6:
                loop.wake()
                await let_pass_async(first_s / 4)
            client.replicaof("NO", "ONE")

    pauses = [after - before for before, after in itertools.pairwise(refused_at[:6])]
    assert all(pause >= first_s * 2**n for n, pause in enumerate(pauses)), pauses


@pytest.mark.parametrize("wrong_by_s", [86_400, -700, -86_400])
async def test_a_workers_wrong_clock_changes_nothing(
    server: EmbeddedServer, client: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch, wrong_by_s: int
) -> None:
    async def answer(body: bytes) -> Answer:
        return Answer(429 if b"slow" in body else 503, "application/json", None, b"{}")

    store = Store(client, keys)
    now_ms = store.now_ms = time.time_ns() // 1_000_000
    store.enqueue(Item("slow/1", body='{"cid":"slow"}'), "down/1")
    right_ns, right_s = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: right_ns() + wrong_by_s * 1_000_000_000)
    monkeypatch.setattr(time, "time", lambda: right_s() + wrong_by_s)
    sender = Sender(answer)
    async with asyncio.timeout(DEADLINE_S), running(server, keys, sender):
        await sender.arrived.get()
        await sender.arrived.get()
    monkeypatch.undo()
    passed_ms = time.time_ns() // 1_000_000 - now_ms
    slow = store.tenant("slow")
    assert slow["hold"] == "rate_limited"
    assert 1_000 <= int(slow["probe_at"]) - now_ms <= 1_000 + passed_ms
    assert 2_000 <= store.record("slow/1").at - now_ms <= 4_000 + passed_ms
    retried = store.record("down/1")
    assert retried.state is State.SCHEDULED
    assert 1_000 <= retried.at - now_ms <= 2_000 + passed_ms
    entry = json.loads(store.history("down/1")[-1])
    assert now_ms <= entry["at_ms"] <= now_ms + passed_ms


async def test_what_is_settled_has_been_logged(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> None:
    async def paired(_: bytes) -> Answer:
        return PAIRED

    settled: list[str] = []
    lines: list[str] = []
    sender = Sender(paired)
    Store(client, keys).enqueue("acme/1", "acme/2", "acme/3")
    async with asyncio.timeout(DEADLINE_S), running(server, keys, sender, lines=lines) as loop:
        settle = loop._store.jobs.settle

        def watched(settlements: list[Settlement], *arguments: Any, **options: Any) -> Any:
            for settlement in settlements:
                assert any(f'"{external_id_of(settlement.id)}"' in part for part in lines)
                settled.append(settlement.id)
            return settle(settlements, *arguments, **options)

        loop._store.jobs.settle = watched  # type: ignore[method-assign, assignment]
        for _ in range(3):
            await sender.arrived.get()
    assert sorted(settled) == ["acme/1", "acme/2", "acme/3"]


@pytest.mark.parametrize(
    ("error", "in_doubt"), [(NotSent("before"), False), (RuntimeError("after"), True)], ids=["not sent", "perhaps sent"]
)
async def test_an_error_of_ours_is_doubt_only_if_the_request_may_have_left_and_is_bounded(
    server: EmbeddedServer, client: redis.Redis, keys: Keys, error: Exception, in_doubt: bool
) -> None:
    async def fail(body: bytes) -> Answer:
        raise error

    store = Store(client, keys)
    store.now_ms = int(time.time() * 1000)
    store.enqueue("acme/1")
    quick = Policy(backoff_base_s=0.01, backoff_cap_s=0.01)
    async with running(server, keys, Sender(fail), policy=quick) as loop:

        def dead() -> bool:
            store.run(store.jobs.promote())
            loop.wake()
            return store.record("acme/1").state is State.DEAD

        await until(dead, "the job is dead", within_s=3 * DEADLINE_S)
    record = store.record("acme/1")
    assert (record.reason, record.ambiguous, record.attempts) == ("internal_error", in_doubt, 3)
    assert bool(record.doubt) is in_doubt
