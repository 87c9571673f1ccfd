"""The store of a run, and how it is made to suffer."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.matrix_plan import Plan, StoreFault
from trackdesk_worker.ops.embedded import EmbeddedServer

LOST_S = 1.0
"""What a power cut takes from an AOF that is written to disk every second."""
EVERYSEC = (StoreFault.KILL_EVERYSEC, StoreFault.POWER_CUT)


class SufferingStore:
    """One server, and a proxy before it where the plan needs one."""

    def __init__(self, plan: Plan, server: EmbeddedServer, proxy: FaultProxy | None) -> None:
        self.server = server
        self.url = server.url if proxy is None else f"redis://127.0.0.1:{proxy.port}/0"
        self.kills = 0
        self.cut_at: float | None = None
        """Monotonic seconds before which everything accepted must still be known after a power cut."""
        self._plan = plan
        self._proxy = proxy
        self._sizes: list[tuple[float, int]] = []
        self._done = threading.Event()

    def suffer(self) -> None:
        """Let the plan's fault happen, and end."""
        match self._plan.store_fault:
            case StoreFault.NONE:
                pass
            case StoreFault.KILL | StoreFault.KILL_EVERYSEC:
                self._kill()
                self._done.wait(self._plan.fault_s / 4)
                self.server.start()
            case StoreFault.POWER_CUT:
                self._kill()
                self._lose_the_last_second()
                self.server.start()
            case StoreFault.SUSPEND:
                self.server.suspend()
                self._done.wait(self._plan.fault_s)
                self.server.resume()
            case StoreFault.HALF_OPEN:
                assert self._proxy is not None
                assert self._proxy.half_open() > 0
            case StoreFault.RESET | StoreFault.FULL | StoreFault.FORGETS:
                self._ask()

    def _ask(self) -> None:
        """Faults that the server brings about itself."""
        with redis.Redis(port=self.server.port) as client:
            if self._plan.store_fault is StoreFault.FULL:
                client.config_set("maxmemory", 1_000_000)
                self._done.wait(self._plan.fault_s)
                client.config_set("maxmemory", 0)
                return
            for _ in range(3):
                if self._plan.store_fault is StoreFault.RESET:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                else:
                    client.script_flush()
                self._done.wait(self._plan.fault_s / 10)

    def _kill(self) -> None:
        self.server.kill()
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
        return next((self.server.directory / "appendonlydir").glob("*.incr.aof"))


@contextmanager
def suffering_store(plan: Plan, directory: Path, binary: Path) -> Iterator[SufferingStore]:
    """The store of a run, ended with the block."""
    fsync = "everysec" if plan.store_fault in EVERYSEC else "always"
    server = EmbeddedServer(directory / "store", binary=binary, config={"appendfsync": fsync})
    server.start()
    try:
        if plan.store_fault is StoreFault.HALF_OPEN:
            with fault_proxy(server.port) as proxy:
                yield SufferingStore(plan, server, proxy)
            return
        store = SufferingStore(plan, server, None)
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
        server.resume()
        server.kill()
