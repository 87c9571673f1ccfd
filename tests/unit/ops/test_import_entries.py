"""Reading files that may be anything: each line is an item or a reason, reported with its number."""

import io
import json
from collections.abc import Callable

import pytest

from tests.support.shop import sale
from trackdesk_worker.ops.importing import entries
from trackdesk_worker.ops.importing.entries import ImportEntry, read_csv, read_json_lines
from trackdesk_worker.ops.importing.lines import MAX_LINE_BYTES, FileBroken, FileUnreadable, LineReader

HEADER = "conversionTypeCode,cid,amount.value,currency.code,externalId,customerId"
ROW = "sale,6f1c0a52-1111-4222-8333-444455556666,100.50,EUR,{},{}"


def reader(data: bytes) -> LineReader:
    return LineReader(io.BufferedReader(io.BytesIO(data)))


def json_lines(*lines: object, end: str = "\n") -> list[ImportEntry]:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + end
    return list(read_json_lines(reader(text.encode())))


def csv_rows(*rows: str, header: str = HEADER, end: str = "\n") -> list[ImportEntry]:
    return list(read_csv(reader(("\n".join((header, *rows)) + end).encode())))


def problems(found: list[ImportEntry]) -> list[tuple[int, str]]:
    return [(entry.line, entry.problem) for entry in found if entry.problem]


def ids(found: list[ImportEntry]) -> list[str | None]:
    return [entry.item.conversion.external_id for entry in found if entry.item]


def test_a_json_line_is_the_guides_body_with_tenant_and_not_before() -> None:
    (entry,) = json_lines(sale("o-1", tenant="bert", not_before="2026-01-31T18:30:00+01:00"))
    assert entry.item is not None
    assert entry.item.tenant == "bert"
    assert entry.item.not_before is not None
    assert entry.item.not_before.isoformat() == "2026-01-31T17:30:00+00:00"


def test_a_csv_row_has_the_guides_get_names() -> None:
    header = f"{HEADER},customParams.advS2,couponCodes,couponCodes,revenueOriginId,qualified,tenant,not_before"
    rows = csv_rows(
        ROW.format("o-1", "c1") + ",x,A,B,r1,TRUE,bert,2026-01-31T18:30:00Z",
        ROW.format("o-2", "") + ",,,,,,,",
        header=header,
    )
    assert problems(rows) == []
    first, second = (row.item for row in rows)
    assert first is not None
    assert second is not None
    assert first.conversion.coupon_codes == ("A", "B")
    assert first.conversion.qualified is True
    assert (first.tenant, second.tenant) == ("bert", None)
    assert second.conversion.customer_id is None


@pytest.mark.parametrize(
    "last", ["10", '"10"', '"10', "10\r"], ids=["plain", "quoted", "open quote", "half a line end"]
)
def test_a_last_row_without_a_line_end_may_be_cut_off_and_is_refused(last: str) -> None:
    found = csv_rows(
        "sale,c,o-1,5.00", f"sale,c,o-2,{last}", header="conversionTypeCode,cid,externalId,amount.value", end=""
    )
    assert ids(found) == ["o-1"]
    assert [line for line, _ in problems(found)] == [3]


def test_a_cut_json_line_is_refused_and_a_closed_object_needs_no_line_end() -> None:
    whole = json.dumps(sale("o-2"))
    for length in range(1, len(whole)):
        found = json_lines(sale("o-1"), whole[:length], end="")
        assert (ids(found), [line for line, _ in problems(found)]) == (["o-1"], [2])
    assert ids(json_lines(sale("o-1"), whole, end="")) == ["o-1", "o-2"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_line_end_is_read(end: str) -> None:
    text = end.join(json.dumps(sale(f"o-{n}")) for n in range(3)) + end
    assert ids(list(read_json_lines(reader(text.encode())))) == ["o-0", "o-1", "o-2"]
    rows = end.join([HEADER, *(ROW.format(f"o-{n}", "") for n in range(3))]) + end
    assert ids(list(read_csv(reader(rows.encode())))) == ["o-0", "o-1", "o-2"]


@pytest.mark.parametrize("read", [read_json_lines, read_csv])
@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b"   \r\n"])
def test_an_empty_file_holds_nothing(read: Callable[[LineReader], list[ImportEntry]], data: bytes) -> None:
    assert list(read(reader(data))) == []


def test_a_byte_order_mark_is_passed_over() -> None:
    data = b"\xef\xbb\xbf" + json.dumps(sale("o-1")).encode()
    assert ids(list(read_json_lines(reader(data)))) == ["o-1"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{}".encode("utf-16"), "UTF-16"),
        ("{}".encode("utf-16-le"), "UTF-16"),
        ("{}".encode("utf-16-be"), "UTF-16"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "spreadsheet"),
    ],
)
def test_files_of_another_kind_are_refused_as_a_whole(data: bytes, said: str) -> None:
    with pytest.raises(FileUnreadable, match=said):
        reader(data)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a":' * 10000, "nested too deeply"),
        ("9" * 5000, "a number is too long"),
        ('{"externalId":"a","externalId":"b"}', "names a key twice"),
        ('{"externalId":"\\ud800"}', ""),
        ('{"amount":NaN}', "amount"),
        (json.dumps({**sale("o-1"), "amount": {"value": 1.5}}), "amount.value"),
        (json.dumps({**sale("o-1"), "sum": 3}), "sum"),
        (json.dumps(sale("o-1", not_before="soon")), "not_before"),
        (json.dumps(sale("o-1", not_before=5)), "not_before"),
        (json.dumps(sale("o\x00")), "externalId"),
    ],
)
def test_a_bad_json_line_is_refused_and_the_next_is_read(line: str, said: str) -> None:
    found = json_lines(sale("before"), line, sale("after"))
    ((number, problem),) = problems(found)
    assert number == 2
    assert said in problem
    assert ids(found) == ["before", "after"]


def test_bytes_that_are_no_utf_8_are_refused_by_line() -> None:
    good = json.dumps(sale("o-1")).encode()
    found = list(read_json_lines(reader(good + b'\n{"cid":"\xff"}\n' + good)))
    assert problems(found) == [(2, "is not UTF-8 (byte 9)")]
    rows = [HEADER.encode(), b"sale,\xe9,1,EUR,o-1,", ROW.format("o-2", "").encode()]
    found = list(read_csv(reader(b"\n".join(rows) + b"\n")))
    assert [number for number, _ in problems(found)] == [2]
    assert ids(found) == ["o-2"]


def test_half_a_last_line_is_called_so() -> None:
    assert problems(json_lines(sale("o-1"), '{"conversionTypeCode":"sa', end="")) == [
        (2, "is cut off: the file ends in the middle of it")
    ]
    assert problems(csv_rows(ROW.format("o-1", ""), "sale,6f1c", end="")) == [
        (3, "is cut off: the file ends in the middle of it")
    ]


def test_an_over_long_line_is_refused_and_never_held() -> None:
    found = json_lines(sale("o-1"), "x" * (MAX_LINE_BYTES + 1), "y" * 1_000_000, sale("o-2"))
    assert [number for number, _ in problems(found)] == [2, 3]
    assert ids(found) == ["o-1", "o-2"]
    at_limit = json.dumps(sale("o-3")).ljust(MAX_LINE_BYTES)
    assert ids(json_lines(at_limit)) == ["o-3"]
    assert problems(json_lines(at_limit + " ")) == [(1, "is longer than 64 KiB")]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("conversionTypeCode,cid,amout.value", "did you mean amount.value?"),
        ("conversionTypeCode,cid,cid", "names cid twice"),
        ("sale,6f1c0a52,100.50", "must name the columns"),
        ("conversionTypeCode,jane@example.com", "has an unknown name in column 2"),
        ('conversionTypeCode,"cid', "is not CSV"),
    ],
)
def test_a_bad_header_is_refused_before_anything_is_read(header: str, said: str) -> None:
    with pytest.raises(FileUnreadable, match=said.replace("?", r"\?")) as error:
        csv_rows(ROW.format("o-1", ""), header=header)
    assert "jane" not in str(error.value)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_seen_in_the_header(delimiter: str) -> None:
    rows = csv_rows(ROW.format("o-1", "").replace(",", delimiter), header=HEADER.replace(",", delimiter))
    assert ids(rows) == ["o-1"]


def test_ragged_rows_are_refused_by_line() -> None:
    found = csv_rows(ROW.format("o-1", "") + ",more", "sale", "", ROW.format("o-2", ""))
    assert problems(found) == [
        (2, "has 7 values, but the header names 6 columns"),
        (3, "has 1 values, but the header names 6 columns"),
    ]
    assert ids(found) == ["o-2"]


def test_a_row_hidden_in_a_quoted_value_is_never_read_as_a_row() -> None:
    hidden = ROW.format("stolen", "")
    found = csv_rows(ROW.format("o-1", f'"x\n{hidden}\n"'), ROW.format("o-2", ""))
    assert ids(found) == ["o-2"]
    ((number, problem),) = problems(found)
    assert number == 2
    assert "customerId" in problem


def test_a_quotation_mark_that_never_closes_is_refused_to_the_end_of_a_short_file() -> None:
    found = csv_rows(ROW.format("o-1", ""), ROW.format("o-2", '"open'), ROW.format("o-3", ""))
    assert ids(found) == ["o-1"]
    assert problems(found) == [(3, "opens a quotation mark that is never closed")]


def test_a_quotation_mark_that_stays_open_for_long_ends_the_import_there() -> None:
    rows = [ROW.format("o-1", ""), ROW.format("o-2", '"open'), *(ROW.format(n, "") for n in range(5000))]
    found = read_csv(reader("\n".join((HEADER, *rows)).encode()))
    assert ids([next(found)]) == ["o-1"]
    with pytest.raises(FileBroken, match="opened in line 3"):
        next(found)


def test_an_over_long_csv_line_with_quotes_ends_the_import_there() -> None:
    with pytest.raises(FileBroken, match="line 2"):
        csv_rows("x" * MAX_LINE_BYTES * 2 + ',"', ROW.format("o-1", ""))
    found = csv_rows("x" * MAX_LINE_BYTES * 2, ROW.format("o-1", ""))
    assert ids(found) == ["o-1"]
    assert problems(found) == [(2, "is longer than 64 KiB")]


def test_no_problem_repeats_personal_data() -> None:
    lines = [
        json.dumps(sale("o-1", customerId="jane@example.com\x07")),
        json.dumps(sale("o-2", customerId={"mail": "jane@example.com"})),
        json.dumps({**sale("o-3"), "jane@example.com": 1}),
        '{"customerId": "jane@example.com", ',
    ]
    assert "jane" not in str(problems(json_lines(*lines)))
    assert len(problems(json_lines(*lines))) == 4


def test_every_column_of_an_export_is_known_to_the_import() -> None:
    assert {"tenant", "not_before", "reason", "died_at"} <= set(entries.COLUMNS)
