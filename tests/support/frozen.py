"""A server that is frozen: its connections stay open and nothing answers."""

import os
import signal

from trackdesk_worker.local.embedded import EmbeddedServer


def suspend(server: EmbeddedServer) -> None:
    """Freeze the server's process."""
    _send(server, signal.SIGSTOP)


def resume(server: EmbeddedServer) -> None:
    """Let a frozen server continue."""
    _send(server, signal.SIGCONT)


def _send(server: EmbeddedServer, what: signal.Signals) -> None:
    if server.pid is not None:
        os.kill(server.pid, what)
