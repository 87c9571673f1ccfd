"""Reads the lines of any file: bounded, numbered, each with its problem if it cannot be used."""

from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

from trackdesk_worker.ops.errors import OpsError

MAX_LINE_BYTES = 64 * 1024

_FOREIGN = (
    (b"\x1f\x8b", "is compressed with gzip: decompress it first"),
    (b"PK\x03\x04", "is a zip archive or a spreadsheet: save it as CSV in UTF-8"),
    (b"\xff\xfe", "is in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "is in UTF-16: save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "is in UTF-32: save it as UTF-8"),
)
_BOM = b"\xef\xbb\xbf"


class FileUnreadable(OpsError):
    """The file cannot be imported; no line was stored."""


class FileBroken(OpsError):
    """From one line on, the ends of lines are unknown; the lines before were read."""


class RawLine(NamedTuple):
    """One line without its line end."""

    number: int
    data: bytes
    problem: str | None
    """Why the line cannot be used; then `data` holds only whether it has a quotation mark."""
    ended: bool
    """False for a last line without a line end: the file may have been cut off in it."""


class LineReader:
    """Reads lines one by one; never holds more than `MAX_LINE_BYTES`."""

    def __init__(self, stream: BufferedReader) -> None:
        self._stream = stream
        self.bytes_read = 0
        self.unended = False
        """Whether the last line read has no line end."""
        start = stream.peek(4)[:4]
        for magic, remedy in _FOREIGN:
            if start.startswith(magic):
                raise FileUnreadable(f"the file {remedy}")
        if b"\x00" in start[:2]:
            raise FileUnreadable("the file is not UTF-8 text (its first characters are NUL bytes, as in UTF-16)")
        if start.startswith(_BOM):
            self.bytes_read += len(stream.read(len(_BOM)))

    def __iter__(self) -> Iterator[RawLine]:
        number = 0
        readline = self._stream.readline
        while raw := readline(MAX_LINE_BYTES + 2):
            number += 1
            self.bytes_read += len(raw)
            if raw.endswith(b"\n"):
                data = raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
                if len(data) <= MAX_LINE_BYTES:
                    yield RawLine(number, data, None, True)
                    continue
            elif len(raw) <= MAX_LINE_BYTES:
                self.unended = True
                yield RawLine(number, raw, None, False)
                continue
            quoted = self._skip_rest(raw)
            yield RawLine(number, b'"' if quoted else b"", "is longer than 64 KiB", True)

    def _skip_rest(self, raw: bytes) -> bool:
        """Read to the end of an over-long line; return whether it holds a quotation mark."""
        quoted = b'"' in raw
        while raw and not raw.endswith(b"\n"):
            raw = self._stream.readline(MAX_LINE_BYTES)
            self.bytes_read += len(raw)
            quoted = quoted or b'"' in raw
        return quoted
