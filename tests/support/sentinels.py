"""A master, two replicas and three Sentinels, as a production deployment runs them: Debian's redis-server."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.exceptions import RedisError

from tests.conftest import server_binary
from tests.support.workers import wait_until
from trackdesk_worker.ops.embedded import EmbeddedServer, free_port

MASTER = "trackdesk"
REDIS_FILES = Path(__file__).parents[2] / "deploy/redis"
FAILOVER_WITHIN_S = 30


def replicated() -> dict[str, str]:
    """Return what deploy/redis/replicated.conf sets."""
    lines = (REDIS_FILES / "replicated.conf").read_text("utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def sentinel_config(port: int, directory: Path, master_port: int) -> str:
    """Return deploy/redis/sentinel.conf with the addresses of this machine."""
    text = (REDIS_FILES / "sentinel.conf").read_text("utf-8")
    for line, here in (
        ("port 26379", f"bind 127.0.0.1\nport {port}"),
        ("dir /tmp", f"dir {directory}"),
        (f"sentinel monitor {MASTER} redis-1 6379 2", f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 2"),
    ):
        assert f"\n{line}\n" in text
        text = text.replace(f"\n{line}\n", f"\n{here}\n")
    return text


class Sentinels:
    """Started by `sentinels`; `servers` keep their places whoever is the master."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        binary = server_binary("redis")
        self.servers = [EmbeddedServer(directory / f"server-{n}", binary=binary, config=replicated()) for n in range(3)]
        self._ports = [free_port() for _ in range(3)]
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """What TRACKDESK_REDIS_URL says."""
        return "sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self._ports) + f"/{MASTER}"

    def start(self) -> None:
        """Start everything; return when a write is replicated and each Sentinel knows the others."""
        for server in self.servers:
            server.start()
        first, *replicas = self.servers
        for replica in replicas:
            with redis.Redis(port=replica.port) as client:
                client.execute_command("REPLICAOF", "127.0.0.1", first.port)
        for number, port in enumerate(self._ports):
            config = self._directory / f"sentinel-{number}.conf"
            config.write_text(sentinel_config(port, self._directory, first.port))
            with (self._directory / f"sentinel-{number}.log").open("wb") as log:
                command = [str(server_binary("redis")), str(config), "--sentinel"]
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        wait_until(self._settled, "every Sentinel knows the others and both replicas", within_s=FAILOVER_WITHIN_S)

    def master_port(self) -> int | None:
        """Return the port of the master, as most Sentinels say."""
        said = [int(state["port"]) for state in self._states()]
        return next((port for port in said if said.count(port) >= 2), None)

    def kill_master(self) -> EmbeddedServer:
        """End the master with SIGKILL; return it, to be started again."""
        port = self.master_port()
        master = next(server for server in self.servers if server.port == port)
        master.kill()
        return master

    def wait_for_failover(self, old: EmbeddedServer) -> int:
        """Return the port of the new master once it takes writes."""

        def writable() -> bool:
            port = self.master_port()
            if port is None or port == old.port:
                return False
            with contextlib.suppress(RedisError), redis.Redis(port=port, socket_timeout=1) as client:
                return bool(client.set("probe", "1"))
            return False

        wait_until(writable, "a new master takes writes", within_s=FAILOVER_WITHIN_S)
        return self.master_port() or 0

    def close(self) -> None:
        """Stop what still runs."""
        for process in self._processes:
            process.kill()
            process.wait(10)
        for server in self.servers:
            server.resume()
            server.kill()

    def _states(self) -> list[dict[str, object]]:
        states = []
        for port in self._ports:
            with contextlib.suppress(RedisError), redis.Redis(port=port, socket_timeout=1) as client:
                states.append(client.sentinel_master(MASTER))
        return states

    def _settled(self) -> bool:
        states = self._states()
        known = [(state["num-other-sentinels"], state["num-slaves"]) for state in states]
        if known != [(2, 2)] * 3:
            return False
        with contextlib.suppress(RedisError), redis.Redis(port=self.servers[0].port) as client:
            return bool(client.set("probe", "1")) and client.execute_command("WAIT", 2, 500) == 2
        return False


@contextlib.contextmanager
def sentinels(directory: Path) -> Iterator[Sentinels]:
    """Run the set-up while the block does."""
    directory.mkdir(parents=True, exist_ok=True)
    running = Sentinels(directory)
    try:
        running.start()
        yield running
    finally:
        running.close()
