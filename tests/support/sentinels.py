"""A master, two replicas and three Sentinels, as a production deployment runs them: Debian's redis-server."""

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis
import trustme
from redis.exceptions import RedisError

from tests.conftest import server_binary
from tests.support.frozen import resume
from tests.support.waiting import wait_until
from trackdesk_worker.local.embedded import EmbeddedServer, free_port

MASTER = "trackdesk"
REDIS_FILES = Path(__file__).parents[2] / "deploy/redis"
FAILOVER_WITHIN_S = 30


def replicated() -> dict[str, str]:
    """Return what deploy/redis/replicated.conf sets."""
    lines = (REDIS_FILES / "replicated.conf").read_text("utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def sentinel_config(port: int, directory: Path, master_port: int, tls: Mapping[str, str]) -> str:
    """Return deploy/redis/sentinel.conf with the addresses of this machine, and over TLS if it says how."""
    text = (REDIS_FILES / "sentinel.conf").read_text("utf-8")
    listen = "\n".join(["port 0", f"tls-port {port}", *(f"{name} {value}" for name, value in tls.items())])
    for line, here in (
        ("port 26379", f"bind 127.0.0.1\n{listen if tls else f'port {port}'}"),
        ("dir /tmp", f"dir {directory}"),
        (f"sentinel monitor {MASTER} redis-1 6379 2", f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 2"),
    ):
        assert f"\n{line}\n" in text
        text = text.replace(f"\n{line}\n", f"\n{here}\n")
    return text


class Sentinels:
    """Started by `sentinels`; `servers` keep their places whichever is the master.

    With `tls` everybody speaks TLS with everybody: clients, servers and Sentinels. The servers' plain ports stay open
    for the test alone.
    """

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self._directory = directory
        self._tls = _certify(directory) if tls else {}
        binary = server_binary("redis")
        self._ports = [free_port() for _ in range(3)]
        """Of the Sentinels."""
        self._seen_at = [free_port() for _ in range(3)] if tls else []
        """Ports of the servers as clients and Sentinels know them."""
        self.servers = []
        for number in range(3):
            own = {**self._tls, "tls-port": str(self._seen_at[number])} if tls else {}
            self.servers.append(
                EmbeddedServer(directory / f"server-{number}", binary=binary, config={**replicated(), **own})
            )
        if not tls:
            self._seen_at = [server.port for server in self.servers]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """What TRACKDESK_REDIS_URL says."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        if not self._tls:
            return f"sentinel://{hosts}/{MASTER}"
        return f"sentinels://{hosts}/{MASTER}?ssl_ca_certs={self._tls['tls-ca-cert-file']}"

    def start(self) -> None:
        """Start everything; return when a write is replicated and each Sentinel knows the others."""
        for server in self.servers:
            server.start()
        for replica in self.servers[1:]:
            with redis.Redis(port=replica.port) as client:
                client.execute_command("REPLICAOF", "127.0.0.1", self._seen_at[0])
        for number, port in enumerate(self._ports):
            config = self._directory / f"sentinel-{number}.conf"
            config.write_text(sentinel_config(port, self._directory, self._seen_at[0], self._tls))
            with (self._directory / f"sentinel-{number}.log").open("wb") as log:
                command = [str(server_binary("redis")), str(config), "--sentinel"]
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        wait_until(self._settled, "every Sentinel knows the others and both replicas", within_s=FAILOVER_WITHIN_S)

    def master(self) -> EmbeddedServer | None:
        """Return the master, as most Sentinels say."""
        said = [int(str(state["port"])) for state in self._states()]
        agreed = next((port for port in said if said.count(port) >= 2), None)
        return None if agreed is None else self.servers[self._seen_at.index(agreed)]

    def kill_master(self) -> EmbeddedServer:
        """End the master with SIGKILL; return it, to be started again."""
        master = self.master()
        assert master is not None
        master.kill()
        return master

    def relieve_master(self) -> EmbeddedServer:
        """Have the Sentinels put another in its place, as docs/guides/failover.md says it is done; return it."""
        master = self.master()
        assert master is not None
        with redis.Redis(port=master.port) as client:
            # Else it would acknowledge sales, on the word of the other replica, while its successor takes over.
            client.execute_command("CLIENT PAUSE", 10_000, "WRITE")
        with self._sentinel(self._ports[0]) as client:
            client.execute_command("SENTINEL FAILOVER", MASTER)
        return master

    def wait_for_failover(self, old: EmbeddedServer) -> EmbeddedServer:
        """Return the new master once it takes writes."""

        def writable() -> bool:
            master = self.master()
            if master is None or master is old:
                return False
            with contextlib.suppress(RedisError), redis.Redis(port=master.port, socket_timeout=1) as client:
                return bool(client.set("probe", "1"))
            return False

        wait_until(writable, "a new master takes writes", within_s=FAILOVER_WITHIN_S)
        master = self.master()
        assert master is not None
        return master

    def close(self) -> None:
        """Stop what still runs."""
        for process in self._processes:
            process.kill()
            process.wait(10)
        for server in self.servers:
            resume(server)
            server.kill()

    def _states(self) -> list[dict[str, object]]:
        states = []
        for port in self._ports:
            with contextlib.suppress(RedisError), self._sentinel(port) as client:
                states.append(client.sentinel_master(MASTER))
        return states

    def _sentinel(self, port: int) -> redis.Redis:
        secured: dict[str, Any] = {"ssl": True, "ssl_ca_certs": self._tls["tls-ca-cert-file"]} if self._tls else {}
        return redis.Redis(host="127.0.0.1", port=port, socket_timeout=1, **secured)

    def _settled(self) -> bool:
        states = self._states()
        known = [(state["num-other-sentinels"], state["num-slaves"]) for state in states]
        if known != [(2, 2)] * 3:
            return False
        with contextlib.suppress(RedisError), redis.Redis(port=self.servers[0].port) as client:
            return bool(client.set("probe", "1")) and client.execute_command("WAIT", 2, 500) == 2
        return False


def _certify(directory: Path) -> dict[str, str]:
    """Make a CA and one certificate; return what servers and Sentinels need to know of them."""
    authority = trustme.CA()
    ca_file, pem = directory / "ca.pem", directory / "server.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    return {
        "tls-cert-file": str(pem),
        "tls-key-file": str(pem),
        "tls-ca-cert-file": str(ca_file),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }


@contextlib.contextmanager
def sentinels(directory: Path, *, tls: bool = False) -> Iterator[Sentinels]:
    """Run the set-up while the block does."""
    directory.mkdir(parents=True, exist_ok=True)
    running = Sentinels(directory, tls=tls)
    try:
        running.start()
        yield running
    finally:
        running.close()
