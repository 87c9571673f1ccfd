"""Logs: one JSON object a line, ours and those of the libraries alike, without secrets.

Our own events never carry payloads or personal data; what libraries write is cut where it may: credentials in
URLs, values of keys that name a secret, and the request lines of the HTTP client, which hold the sale itself
when it is sent by GET.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s'\"]*@")
_SECRET_NAME = re.compile(r"(?i)api[-_]?key|authorization|password|passwd|secret|credential")
HIDDEN = "***"

QUIET = ("httpx", "httpcore", "pyreqwest", "celery.worker.strategy", "celery.app.trace")
"""Loggers whose lines below a warning show requests, and with them sales, or say twice that a wake-up came."""
REDIRECTED = ("celery", "celery.task", "celery.redirected", "kombu", "uvicorn", "uvicorn.error", "uvicorn.access")
"""Loggers that bring handlers of their own, which would write a second, plain line."""

WHOLE_BYTES = 4_096
"""A write of so much reaches a pipe in one piece (PIPE_BUF), beside those of other processes with the same stderr."""
_ENCODE = json.JSONEncoder(default=str).encode


def configure_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Send every log of this process to `stream` (stderr) as JSON, from `level` up.

    Idempotent. structlog's loggers write straight to the stream: an event per attempt has to be cheap.
    """
    output = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        redact,
    ]
    render = structlog.processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*before, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: _NamedLogger(output, *names),
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for name in REDIRECTED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


class _NamedLogger(structlog.WriteLogger):
    """Writes lines to a stream, under the name given to ``structlog.get_logger``."""

    def __init__(self, stream: TextIO, name: str = "trackdesk") -> None:
        super().__init__(stream)
        self.name = name


class BufferedLog:
    """The log of what happens thousands of times a second: the same lines as structlog's, at a quarter of the cost.

    Lines wait for `flush`; whoever writes has to call it before the event has consequences. Not thread-safe.
    """

    def __init__(self, name: str, write: Callable[[str], object], *, enabled: bool = True) -> None:
        """`write` gets whole lines, without the last line feed, at most `WHOLE_BYTES` of them if they are short."""
        self._fixed = {"logger": name, "level": "info"}
        self._write = write
        self._enabled = enabled
        self._lines: list[str] = []
        self._second = 0
        self._until_second = ""

    def info(self, event: str, **fields: Any) -> None:
        """Log an event. No name of a field may be one of a secret's; values are looked at as everywhere."""
        if not self._enabled:
            return
        fields["event"] = event
        fields |= self._fixed
        fields["time"] = self._now()
        line = _ENCODE(fields)
        if "@" in line:
            line = _ENCODE(_hide(fields))
        self._lines.append(line)

    def flush(self) -> None:
        """Write what waits."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        part: list[str] = []
        size = 0
        for line in lines:  # plain ASCII: a character is a byte
            if part and size + len(line) >= WHOLE_BYTES:
                self._write("\n".join(part))
                part, size = [], 0
            part.append(line)
            size += len(line) + 1
        self._write("\n".join(part))

    def _now(self) -> str:
        now_us = time.time_ns() // 1_000
        second, us = divmod(now_us, 1_000_000)
        if second != self._second:
            self._second, self._until_second = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._until_second}.{us:06d}Z"


def buffered_log(name: str) -> BufferedLog:
    """Return a buffered log that goes where structlog's loggers go, at their level."""
    enabled = structlog.get_logger(name).is_enabled_for(logging.INFO)
    return BufferedLog(name, structlog.get_config()["logger_factory"](name).msg, enabled=enabled)


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide secrets in an event: a processor for structlog."""
    for name, value in event.items():
        if value is None:
            continue
        if _names_a_secret(name):
            event[name] = HIDDEN
        elif not isinstance(value, (int, float)):
            event[name] = _hide(value)
    return event


@lru_cache(maxsize=1024)
def _names_a_secret(name: str) -> bool:
    """Names of fields recur with every event."""
    return _SECRET_NAME.search(name) is not None


def _hide(value: Any) -> Any:
    if isinstance(value, str):
        return _CREDENTIALS.sub(rf"\1{HIDDEN}@", value) if "@" in value else value
    if isinstance(value, Mapping):
        return {k: HIDDEN if _names_a_secret(str(k)) else _hide(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_hide(item) for item in value]
    return value
