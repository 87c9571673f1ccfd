"""The command line in the test's process: what it prints, and its exit code."""

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.cli import run


@dataclass(frozen=True)
class Result:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout, which must hold nothing else."""
        return json.loads(self.out)


class Cli:
    """Runs commands against one namespace, as the operator ann."""

    def __init__(
        self, url: str, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name, value in {
            "TRACKDESK_REDIS_URL": url,
            "TRACKDESK_NAMESPACE": keys.namespace,
            "USER": "ann",
        }.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run one command line; `stdin` is what is piped in."""
        raw = stdin.encode() if isinstance(stdin, str) else stdin or b""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        self._capsys.readouterr()
        code = run(arguments)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Result(code, out, err)

    def env(self, **values: str) -> None:
        """Set TRACKDESK_ variables for the rest of the test."""
        for name, value in values.items():
            self._monkeypatch.setenv(f"TRACKDESK_{name}", value)
