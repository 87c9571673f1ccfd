"""Writes the lines that were not imported, and why."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO


@dataclass(frozen=True, slots=True)
class Reject:
    """One line that was not stored."""

    line: int
    kind: str
    """``rejected``, or ``conflict``: the externalId was accepted before with other content."""
    reason: str
    external_id: str | None
    tenant: str | None = None
    raw: str = ""


class RejectsFile:
    """Writes rejects as JSON lines; creates the file, readable by its owner only, with the first one.

    The lines themselves may hold personal data, so they are written only if requested.
    """

    def __init__(self, path: Path, *, with_data: bool) -> None:
        self.path = path
        self._with_data = with_data
        self._file: TextIO | None = None

    @property
    def written(self) -> bool:
        """Whether anything was written."""
        return self._file is not None

    def write(self, reject: Reject) -> None:
        """Add one."""
        if self._file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
        entry: dict[str, Any] = {"line": reject.line, "kind": reject.kind, "reason": reject.reason}
        if reject.external_id is not None:
            entry["external_id"] = reject.external_id
        if reject.tenant is not None:
            entry["tenant"] = reject.tenant
        if self._with_data and reject.raw:
            entry["data"] = reject.raw
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def flush(self) -> None:
        """Flush what was written to the file."""
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
