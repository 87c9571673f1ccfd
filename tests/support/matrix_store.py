"""The store of a run, and its faults."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import redis

from tests.support.faked_clock import FakedClock
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.frozen import resume, suspend
from tests.support.matrix_plan import Plan, StoreFault
from tests.support.one_address import OneAddress, one_address
from trackdesk_worker.local.embedded import EmbeddedServer

LOST_S = 1.0
"""What a power cut takes from an AOF that is written to disk every second."""
EVERYSEC = (StoreFault.KILL_EVERYSEC, StoreFault.POWER_CUT)
EDGE_BYTES = 20_000
"""Room left to a store whose memory runs out in the middle of a call: some calls fit, some do not."""
BUSY_AFTER_MS = 100
FILLER = 30_000
"""Writes in the AOF of a store that is to load for a while."""
LOAD_DELAY_US = 40
"""Redis' own switch for tests: so long a pause after each write that is loaded."""


class Addressed(Protocol):
    """Anything with an address."""

    @property
    def url(self) -> str:
        """Where clients find it."""


class FaultyStore:
    """One server, and what the plan needs around it: a proxy, a second server, a clock of its own."""

    def __init__(
        self,
        plan: Plan,
        server: EmbeddedServer,
        *,
        proxy: FaultProxy | None = None,
        address: OneAddress | None = None,
        clock: FakedClock | None = None,
    ) -> None:
        self.server: Addressed = server if address is None else address
        """Where the test itself, which the fault must not reach, finds the store."""
        self.url = self.server.url if proxy is None else f"redis://127.0.0.1:{proxy.port}/0"
        self.kills = 0
        self.cut_at: float | None = None
        """Monotonic seconds before which everything accepted must still be known after a power cut."""
        self._plan = plan
        self._process = server
        self._proxy = proxy
        self._address = address
        self._clock = clock
        self._sizes: list[tuple[float, int]] = []
        self._done = threading.Event()

    def run_fault(self) -> None:
        """Cause the plan's fault, and end it."""
        match self._plan.store_fault:
            case StoreFault.NONE:
                pass
            case StoreFault.KILL | StoreFault.KILL_EVERYSEC:
                self._kill()
                self._done.wait(self._plan.fault_s / 4)
                self._process.start()
            case StoreFault.LOADING:
                self._kill()
                self._process.start()  # returns when it has loaded
            case StoreFault.POWER_CUT:
                self._kill()
                self._lose_the_last_second()
                self._process.start()
            case StoreFault.SUSPEND:
                suspend(self._process)
                self._done.wait(self._plan.fault_s)
                resume(self._process)
            case StoreFault.HALF_OPEN:
                assert self._proxy is not None
                assert self._proxy.half_open() > 0
            case StoreFault.FAILOVER:
                assert self._address is not None
                self._address.demote()
                self._done.wait(self._plan.fault_s)
                self._address.follow()
            case StoreFault.CLOCK:
                assert self._clock is not None
                self._clock.jump(self._plan.clock_s, port=self._process.port)
                self._done.wait(self._plan.fault_s)
                self._clock.jump(0, port=self._process.port)
            case StoreFault.RESET | StoreFault.FORGETS:
                self._ask_repeatedly()
            case StoreFault.FULL | StoreFault.AT_THE_EDGE | StoreFault.BUSY | StoreFault.MISCONF:
                with redis.Redis(port=self._process.port) as client:
                    self._run_lasting_fault(client)

    def _run_lasting_fault(self, client: redis.Redis) -> None:
        """Cause a fault that lasts for a while."""
        match self._plan.store_fault:
            case StoreFault.FULL:
                client.config_set("maxmemory", 1_000_000)
                self._done.wait(self._plan.fault_s)
                client.config_set("maxmemory", 0)
            case StoreFault.AT_THE_EDGE:
                ends = time.monotonic() + self._plan.fault_s
                while time.monotonic() < ends:
                    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + EDGE_BYTES)
                    self._done.wait(0.05)
                client.config_set("maxmemory", 0)
            case StoreFault.BUSY:
                client.config_set("busy-reply-threshold", BUSY_AFTER_MS)
                self._run_endlessly(client)
            case StoreFault.MISCONF:
                in_the_way = self._process.directory / "dump.rdb"
                in_the_way.mkdir()  # no snapshot can take this name
                self._snapshot(client, "err")
                client.config_set("save", "3600 1000000")  # a server that is to save refuses writes when it cannot
                self._done.wait(self._plan.fault_s)
                in_the_way.rmdir()
                self._snapshot(client, "ok")
                client.config_set("save", "")

    def _run_endlessly(self, client: redis.Redis) -> None:
        def run() -> None:
            with contextlib.suppress(redis.RedisError), redis.Redis(port=self._process.port) as endless:
                endless.eval("while true do end", 0)

        running = threading.Thread(target=run, name="endless-script")
        running.start()
        self._done.wait(self._plan.fault_s)
        while running.is_alive():
            with contextlib.suppress(redis.ResponseError):  # NOTBUSY: it has yet to begin, or has ended
                client.script_kill()
            running.join(0.1)

    def _snapshot(self, client: redis.Redis, wanted: str) -> None:
        client.bgsave()
        deadline = time.monotonic() + 10
        while True:
            state = client.info("persistence")
            if not state["rdb_bgsave_in_progress"] and state["rdb_last_bgsave_status"] == wanted:
                return
            assert time.monotonic() < deadline, f"a snapshot that ends with {wanted}"
            self._done.wait(0.02)

    def _ask_repeatedly(self) -> None:
        """Cause a fault that one command causes at once, several times."""
        with redis.Redis(port=self._process.port) as client:
            for _ in range(3):
                if self._plan.store_fault is StoreFault.RESET:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                else:
                    client.script_flush()
                self._done.wait(self._plan.fault_s / 10)

    def _kill(self) -> None:
        self._process.kill()
        self.kills += 1

    def watch(self) -> None:
        """Note how long the AOF is, until `end`: what a power cut takes is measured by it."""
        while not self._done.wait(0.02):
            self._sizes.append((time.monotonic(), self._aof().stat().st_size))

    def end(self) -> None:
        """End the watching."""
        self._done.set()

    def _lose_the_last_second(self) -> None:
        self.cut_at = time.monotonic() - LOST_S
        kept = max((size for at, size in tuple(self._sizes) if at <= self.cut_at), default=0)
        with self._aof().open("r+b") as log:
            log.truncate(kept)

    def _aof(self) -> Path:
        # Redis 7 and Valkey keep the growing part of the AOF in a file of its own.
        return next((self._process.directory / "appendonlydir").glob("*.incr.aof"))


@contextmanager
def faulty_store(plan: Plan, directory: Path, binary: Path) -> Iterator[FaultyStore]:
    """The store of a run, ended with the block."""
    if plan.store_fault is StoreFault.FAILOVER:
        with one_address(directory / "store", binary, config={"appendfsync": "always"}) as address:
            yield FaultyStore(plan, address.master, address=address)
        return
    clock = FakedClock(directory, binary) if plan.store_fault is StoreFault.CLOCK else None
    fsync = "everysec" if plan.store_fault in EVERYSEC else "always"
    slow = {"key-load-delay": str(LOAD_DELAY_US)} if plan.store_fault is StoreFault.LOADING else {}
    server = EmbeddedServer(
        directory / "store",
        binary=binary if clock is None else clock.binary,
        config={"appendfsync": fsync, **slow},
    )
    server.start()
    try:
        if plan.store_fault is StoreFault.HALF_OPEN:
            with fault_proxy(server.port) as proxy:
                yield FaultyStore(plan, server, proxy=proxy)
            return
        if plan.store_fault is StoreFault.LOADING:
            _fill(server)
        store = FaultyStore(plan, server, clock=clock)
        watcher = threading.Thread(target=store.watch, name="aof-watch", daemon=True)
        if plan.store_fault is StoreFault.POWER_CUT:
            watcher.start()
        try:
            yield store
        finally:
            store.end()
            if watcher.is_alive():
                watcher.join(5)
    finally:
        resume(server)
        server.kill()


def _fill(server: EmbeddedServer) -> None:
    """Write so much into the AOF, outside the namespace, that loading takes a while."""
    with redis.Redis(port=server.port) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(FILLER):
            pipeline.set("filler", number)
        pipeline.execute()
