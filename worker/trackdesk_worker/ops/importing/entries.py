"""Reads conversions from lines: JSON lines in the guide's POST form, CSV with the guide's GET names."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from trackdesk_producer import Conversion, EnqueueItem, parse_conversion, parse_query
from trackdesk_producer.conversion.names import QUERY_NAMES
from trackdesk_worker.ops.dead_letters.export import ABOUT
from trackdesk_worker.ops.importing.lines import MAX_LINE_BYTES, FileBroken, FileUnreadable, RawLine
from trackdesk_worker.ops.timestamps import parse_moment

TENANT, NOT_BEFORE = "tenant", "not_before"
COLUMNS = (*QUERY_NAMES, TENANT, NOT_BEFORE, *sorted(ABOUT))
_REPEATABLE = "couponCodes"
_NAMEABLE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_UNENDED = (
    "has no line end, so its last value may be cut off: check it, end the file with a line end, and repeat the command"
)
_CUT_OFF = "is cut off: the file ends in the middle of it"


class ImportEntry(NamedTuple):
    """The result of one line: an item to enqueue, or why it is rejected. A named tuple: one is built per line."""

    line: int
    item: EnqueueItem | None
    problem: str | None
    external_id: str | None
    """As far as it could be read, to find the sale."""
    raw: str | bytes

    @property
    def text(self) -> str:
        """The line itself, written only if requested."""
        return self.raw if isinstance(self.raw, str) else self.raw.decode()


def read_json_lines(lines: Iterable[RawLine]) -> Iterator[ImportEntry]:
    """Read one conversion per line; blank lines are skipped."""
    for line in lines:
        if line.problem is None and (not line.data or line.data.isspace()):
            continue
        if line.problem is not None:
            yield _refused(line.number, line.problem)
            continue
        try:
            fields = decode_object(line.data)
        except ValueError as error:
            problem = str(error) if line.ended else _CUT_OFF
            yield _refused(line.number, problem, raw=line.data.decode("utf-8", "replace"))
            continue
        yield _entry(line.number, fields, parse_conversion, line.data)


def read_csv(lines: Iterable[RawLine]) -> Iterator[ImportEntry]:
    """Read one conversion per row; the first row names the columns.

    A quoted value may hold line breaks, which no field allows: the row is refused as a whole, so that nothing inside
    a value is read as a row.

    Raises:
        FileUnreadable: the first row names no columns, or unknown ones.
        FileBroken: the end of a quoted value is unknown.
    """
    feed = _Feed(iter(lines))
    header, delimiter = _header(feed)
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    single = header.count(_REPEATABLE) < 2
    while True:
        feed.begin()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            problem = "opens a quotation mark that is never closed" if "end of data" in str(error) else str(error)
            yield _refused(feed.start, problem)
            continue
        if feed.problem is not None:
            yield _refused(feed.start, feed.problem)
        elif not row or (len(row) == 1 and not row[0].strip()):
            continue
        elif len(row) != len(header):
            cut = _CUT_OFF if not feed.ended and len(row) < len(header) else None
            problem = cut or f"has {len(row)} values, but the header names {len(header)} columns"
            yield _refused(feed.start, problem, raw=delimiter.join(row))
        elif not feed.ended:  # half a JSON object is not valid, but half an amount is an amount
            yield _refused(feed.start, _UNENDED, raw=delimiter.join(row))
        else:
            fields = dict(zip(header, row, strict=True)) if single else _gathered(header, row)
            yield _entry(feed.start, fields, parse_query, delimiter.join(row))


def decode_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        ValueError: with what is wrong, without the data.
    """
    try:
        decoded = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error.msg} at character {error.pos + 1}") from error
    except _KeyTwice:
        raise
    except ValueError as error:  # a whole number of thousands of digits
        raise ValueError("is not valid JSON: a number is too long") from error
    except RecursionError as error:
        raise ValueError("is not valid JSON: nested too deeply") from error
    if not isinstance(decoded, dict):
        raise ValueError('is not a JSON object; write {"conversionTypeCode": "sale", ...}')
    return decoded


def to_item(fields: dict[str, Any], parse: Callable[[Mapping[str, Any]], Conversion]) -> EnqueueItem:
    """Return what to enqueue; takes `tenant` and `not_before` from the fields.

    Raises:
        ValueError: naming what is wrong (the producer's ConversionInvalid is one).
    """
    tenant = fields.pop(TENANT, None) or None
    not_before = fields.pop(NOT_BEFORE, None) or None
    if not ABOUT.isdisjoint(fields):
        for name in ABOUT:
            fields.pop(name, None)
    due = None
    if not_before is not None:
        if not isinstance(not_before, str):
            raise ValueError("not_before must be text with a time")
        try:
            due = parse_moment(not_before)
        except ValueError as error:
            raise ValueError(f"not_before: {error}") from error
    return EnqueueItem(parse(fields), tenant, due)


class _KeyTwice(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _KeyTwice("names a key twice: which value counts is unknown")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _entry(
    number: int, fields: dict[str, Any], parse: Callable[[Mapping[str, Any]], Conversion], raw: bytes | str
) -> ImportEntry:
    external_id = fields.get("externalId")
    try:
        item = to_item(fields, parse)
    except ValueError as error:
        return _refused(number, str(error), external_id=external_id, raw=raw)
    return ImportEntry(number, item, None, external_id if isinstance(external_id, str) else None, raw)


def _refused(number: int, problem: str, *, external_id: object = None, raw: str | bytes = "") -> ImportEntry:
    known = external_id if isinstance(external_id, str) and len(external_id) <= 255 else None
    return ImportEntry(number, None, problem, known, raw)


class _Feed:
    """Feeds lines to the CSV reader and keeps the problem of the current row."""

    def __init__(self, lines: Iterator[RawLine]) -> None:
        self._lines = lines
        self.begin()

    def begin(self) -> None:
        """Start a row."""
        self.start = 0
        self._size = 0
        self.problem: str | None = None
        self.ended = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.start = self.start or line.number
        self.ended = line.ended
        self._size += len(line.data) + 1
        if line.problem is not None:
            if line.data or self._size > 1 + len(line.data):
                what = f"line {line.number} {line.problem} and holds quotation marks"
                raise FileBroken(f"{what}: where its last value ends is unknown")
            self.problem = line.problem
            return "\n"
        if self._size > MAX_LINE_BYTES + 1:
            raise FileBroken(f"a quotation mark opened in line {self.start} is not closed within 64 KiB")
        try:
            return line.data.decode() + "\n"
        except UnicodeDecodeError as error:
            self.problem = f"is not UTF-8 (byte {error.start + 1})"
            return line.data.decode("utf-8", "replace") + "\n"


def _header(feed: _Feed) -> tuple[list[str], str]:
    for text in feed:
        if feed.problem is not None:
            raise FileUnreadable(f"the header (line {feed.start}) {feed.problem}")
        if text.strip():
            break
        feed.begin()
    else:
        return [], ","
    delimiter = next((mark for mark in ",;\t" if mark in text), ",")
    try:
        names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter, strict=True))]
    except csv.Error as error:
        raise FileUnreadable(f"the header (line {feed.start}) is not CSV: {error}") from error
    if not set(names) & set(COLUMNS):
        raise FileUnreadable(
            f"line {feed.start} must name the columns, "
            "such as conversionTypeCode,cid,amount.value,currency.code,externalId"
        )
    for position, name in enumerate(names, start=1):
        if name not in COLUMNS:
            raise FileUnreadable(f"the header (line {feed.start}) {_unknown(position, name)}")
        if name != _REPEATABLE and name in names[: position - 1]:
            raise FileUnreadable(f"the header (line {feed.start}) names {name} twice")
    return names, delimiter


def _unknown(position: int, name: str) -> str:
    if not _NAMEABLE.fullmatch(name):  # it may be data, so it is not repeated
        return f"has an unknown name in column {position}"
    similar = get_close_matches(name, COLUMNS, n=1, cutoff=0.6)
    hint = f"did you mean {similar[0]}?" if similar else f"the names are {', '.join(COLUMNS)}"
    return f"names an unknown column {position}, {name}: {hint}"


def _gathered(header: list[str], row: list[str]) -> dict[str, Any]:
    """Return the row's values, those of a repeated column as a list."""
    fields: dict[str, Any] = {}
    for name, value in zip(header, row, strict=True):
        if name == _REPEATABLE:
            fields.setdefault(name, []).append(value)
        else:
            fields[name] = value
    return fields
