"""Whatever an import file holds: each line is an entry or a plain refusal; only errors that say why are raised."""

import io

from hypothesis import given
from hypothesis import strategies as st

from trackdesk_worker.ops.importing.entries import read_csv, read_json_lines
from trackdesk_worker.ops.importing.lines import FileBroken, FileUnreadable, LineReader

json_pieces = st.sampled_from(
    [
        b"{",
        b"}",
        b'"',
        b":",
        b",",
        b"[" * 3000,
        b"\\ud800",
        b"9" * 5000,
        b"NaN",
        b"1e999",
        b"\n",
        b"\r\n",
        b"\xff",
        b"\x00",
        b'"conversionTypeCode":"sale"',
        b'"cid":"x"',
        b'"amount":{"value":"1"}',
        b'"externalId":"o-1"',
    ]
)
csv_pieces = st.sampled_from(
    [
        b"conversionTypeCode",
        b"cid",
        b"externalId",
        b"amount.value",
        b"couponCodes",
        b",",
        b";",
        b"\t",
        b'"',
        b'""',
        b"\n",
        b"\r",
        b"\r\n",
        b"sale",
        b"x",
        b"\xff",
        b"\x00",
        b"1e999",
        b"\xef\xbb\xbf",
    ]
)


def lines(data: bytes) -> LineReader:
    return LineReader(io.BufferedReader(io.BytesIO(data)))


@given(st.binary(max_size=400) | st.lists(json_pieces, max_size=12).map(b"".join))
def test_any_bytes_are_read_as_lines_of_json_or_refused_by_line(data: bytes) -> None:
    try:
        entries = list(read_json_lines(lines(data)))
    except (FileUnreadable, FileBroken):
        return
    assert all((entry.item is None) == (entry.problem is not None) for entry in entries)
    assert len({entry.line for entry in entries}) == len(entries) <= data.count(b"\n") + 1


@given(
    st.binary(max_size=400)
    | st.lists(csv_pieces, max_size=30).map(b"".join)
    | st.lists(csv_pieces, max_size=30).map(lambda pieces: b"conversionTypeCode,cid,externalId\n" + b"".join(pieces))
)
def test_any_bytes_are_read_as_rows_of_csv_or_refused_by_row(data: bytes) -> None:
    try:
        entries = list(read_csv(lines(data)))
    except (FileUnreadable, FileBroken):
        return
    assert all((entry.item is None) == (entry.problem is not None) for entry in entries)
