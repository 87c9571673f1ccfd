"""A master and a replica behind one address, as behind a service, a virtual IP or a name: a connection stays with the
server to which it was opened, a new one leads to the master.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis
from redis.exceptions import RedisError

from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.waiting import wait_until
from trackdesk_worker.local.embedded import EmbeddedServer

REPLICATED_WITHIN_S = 20


class OneAddress:
    """Started by `one_address`. `master` and `replica` change places with each failover."""

    def __init__(self, master: EmbeddedServer, replica: EmbeddedServer, proxy: FaultProxy) -> None:
        self.master = master
        self.replica = replica
        self._proxy = proxy

    @property
    def url(self) -> str:
        """What TRACKDESK_REDIS_URL says."""
        return f"redis://127.0.0.1:{self._proxy.port}/0"

    def replicate(self) -> None:
        """Make the replica one; return when a write is replicated."""
        _order(self.replica, "REPLICAOF", "127.0.0.1", self.master.port)

        def replicated() -> bool:
            with contextlib.suppress(RedisError), redis.Redis(port=self.master.port) as client:
                return bool(client.set("probe", "1")) and client.execute_command("WAIT", 1, 500) == 1
            return False

        wait_until(replicated, "a write is replicated", within_s=REPLICATED_WITHIN_S)

    def demote(self) -> None:
        """Hand over to the replica without losing a write. The address leads to the old master, now a replica."""
        _order(self.master, "FAILOVER", "TO", "127.0.0.1", self.replica.port)
        wait_until(lambda: _role(self.replica) == "master", "the replica is the master", within_s=REPLICATED_WITHIN_S)
        wait_until(lambda: _role(self.master) == "slave", "the master is a replica", within_s=REPLICATED_WITHIN_S)
        self.master, self.replica = self.replica, self.master

    def follow(self) -> None:
        """Let the address lead to the master. Open connections stay where they are."""
        self._proxy.lead_to(self.master.port)

    def listens(self) -> bool:
        """Whether a worker waits for wake-ups at the master."""
        with redis.Redis(port=self.master.port) as client:
            return any(str(entry["cmd"]).lower() == "brpop" for entry in client.client_list())


def _order(server: EmbeddedServer, *command: str | int) -> None:
    with redis.Redis(port=server.port, socket_timeout=5) as client:
        client.execute_command(*command)


def _role(server: EmbeddedServer) -> str:
    with redis.Redis(port=server.port, socket_timeout=5) as client:
        return str(client.info("replication")["role"])


@contextlib.contextmanager
def one_address(directory: Path, binary: Path, *, config: Mapping[str, str] | None = None) -> Iterator[OneAddress]:
    """Run both servers and the address while the block does."""
    servers = [EmbeddedServer(directory / f"server-{number}", binary=binary, config=config) for number in range(2)]
    try:
        for server in servers:
            server.start()
        with fault_proxy(servers[0].port) as proxy:
            running = OneAddress(servers[0], servers[1], proxy)
            running.replicate()
            yield running
    finally:
        for server in servers:
            server.kill()
