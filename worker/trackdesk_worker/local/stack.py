"""Everything on one machine: an embedded server unless one is named, workers, the exporter, maybe a simulator."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trackdesk_worker.config.settings import PREFIX, Settings, load_settings
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.process.supervisor import Child, Supervisor

WATCH_S = 0.2


class LocalStack:
    """Starts the parts in order and stops them in reverse order: the store ends last."""

    def __init__(
        self,
        *,
        data: Path,
        port: int,
        processes: int,
        overrides: Mapping[str, Any],
        notify: Callable[[str], None],
    ) -> None:
        self._data = data
        self._processes = processes
        self._overrides = dict(overrides)
        self._notify = notify
        named = "redis_url" in load_settings(**overrides).model_fields_set
        self._server = None if named else EmbeddedServer(data / "valkey", port=port)
        if self._server is not None:
            self._overrides["redis_url"] = self._server.url
        self.settings: Settings = load_settings(**self._overrides)
        self._supervisor: Supervisor | None = None

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables for another shell to use this stack."""
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in self._overrides.items()}

    @property
    def logs(self) -> Path:
        """The log file of the processes."""
        return self._data / "logs"

    @contextlib.contextmanager
    def running(self, *extra: Child) -> Iterator[None]:
        """Start everything, and `extra` processes; stop all of it in the end, also after an error. The data is kept."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            if self._server is not None:
                self._server.start()
                stack.callback(self._server.stop)
            supervisor = Supervisor(
                [
                    *extra,
                    self._child("worker", "worker", "--processes", str(self._processes)),
                    self._child("exporter", "console"),
                ],
                grace_s=self.settings.timeout_s + 20,
                notify=self._notify,
            )
            stack.callback(supervisor.stop)
            supervisor.start()
            self._supervisor = supervisor
            yield

    def watch(self) -> None:
        """Restart each process that ended, once."""
        if self._supervisor is not None:
            self._supervisor.watch()

    def watch_until(self, stop: threading.Event) -> None:
        """Keep everything running until `stop` is set."""
        while not stop.wait(WATCH_S):
            self.watch()

    def _child(self, name: str, *arguments: str) -> Child:
        return Child(name, arguments, self.variables, self.logs / f"{name}.log")
