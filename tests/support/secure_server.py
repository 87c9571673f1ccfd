"""Debian's redis-server as production runs it: TLS, and the users of deploy/redis/users.acl and nobody else."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import trustme

from tests.conftest import server_binary
from trackdesk_worker.local.embedded import EmbeddedServer, free_port

USERS = Path(__file__).parents[2] / "deploy/redis/users.acl"
PASSWORD = "p@ss/word:with#signs"


@dataclass(frozen=True)
class SecureServer:
    """A running one."""

    host: str
    tls_port: int
    ca_file: Path
    server: EmbeddedServer

    @property
    def url(self) -> str:
        """Where workers and operators find it."""
        return self.url_for("trackdesk-worker")

    def url_for(self, user: str, *, ca: bool = True, password: str = PASSWORD) -> str:
        """Return the address for a user; without `ca`, the system's certificates count."""
        quoted = password.replace("@", "%40").replace("/", "%2F").replace(":", "%3A").replace("#", "%23")
        query = f"?ssl_ca_certs={self.ca_file}" if ca else ""
        return f"rediss://{user}:{quoted}@{self.host}:{self.tls_port}/0{query}"

    def denied(self) -> list[str]:
        """Return what users tried and may not do, as Redis noted it."""
        with redis.Redis.from_url(self.url_for("admin")) as admin:
            return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in admin.acl_log()]


@contextmanager
def secure_server(directory: Path, namespace: str) -> Iterator[SecureServer]:
    """Run one while the block does; its users may touch `namespace` only."""
    directory.mkdir(parents=True)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ca_file, pem, users = directory / "ca.pem", directory / "server.pem", directory / "users.acl"
    authority.cert_pem.write_to_path(str(ca_file))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    users.write_text("")
    tls_port = free_port()
    config = {
        "tls-port": str(tls_port),
        "tls-cert-file": str(pem),
        "tls-key-file": str(pem),
        "tls-ca-cert-file": str(ca_file),
        "tls-auth-clients": "no",
        "aclfile": str(users),
    }
    server = EmbeddedServer(directory / "data", binary=server_binary("redis"), config=config)
    server.start()
    try:
        lines = USERS.read_text().replace("{trackdesk}", f"{{{namespace}}}").replace(" on ", f" on >{PASSWORD} ")
        users.write_text(f"user admin on >{PASSWORD} ~* &* +@all\n{lines}")
        with redis.Redis(port=server.port) as client:
            client.execute_command("ACL LOAD")
        yield SecureServer("localhost", tls_port, ca_file, server)
    finally:
        server.stop()
