"""The ledger: queries, totals, bounds, and the file that survives a restart."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trackdesk_simulator.ledger import Ledger, LedgerFileError, LedgerFullError, LedgerRow


def row(external_id: str, **changes: Any) -> LedgerRow:
    values: dict[str, Any] = {
        "tenant": "acme",
        "type_code": "sale",
        "external_id": external_id,
        "revenue_origin_id": "",
        "source": "c-1",
        "amount": Decimal("0.10"),
        "currency": "EUR",
        "status": "CONVERSION_STATUS_APPROVED",
        "created_at": "",
        "received_at": 1_767_225_600.25,
        "method": "POST",
    }
    return LedgerRow(**values | changes)


def test_totals_are_exact_by_currency() -> None:
    ledger = Ledger()
    for number in range(3):
        ledger.append(row(f"o-{number}"))
    ledger.append(row("o-4", currency="USD", amount=Decimal("7"), tenant="other"))
    ledger.append(row("o-5", amount=None))
    assert ledger.totals() == {"EUR": Decimal("0.30"), "USD": Decimal("7")}
    assert ledger.totals(tenant="other") == {"USD": Decimal("7")}
    assert ledger.count() == 5
    assert ledger.count(tenant="other") == 1


def test_exactly_once_names_what_is_missing_and_what_is_doubled() -> None:
    ledger = Ledger()
    for external_id in ("a", "b", "b", "c"):
        ledger.append(row(external_id))
    verdict = ledger.exactly_once(["a", "b", "x"])
    assert (verdict.missing, verdict.doubled, verdict.ok) == (("x",), ("b",), False)
    assert ledger.exactly_once(["a", "c"], tenant="acme").ok
    assert ledger.exactly_once(["a"], tenant="other").missing == ("a",)


def test_rows_are_found_by_tenant_and_external_id() -> None:
    ledger = Ledger()
    for kind in ("sale", "lead"):
        ledger.append(row("o-1", type_code=kind))
    ledger.append(row("o-1", tenant="other"))
    assert [found.type_code for found in ledger.rows_for("acme", "o-1")] == ["sale", "lead"]
    assert ledger.rows_for("acme", "o-2") == []
    assert ledger.has("acme", "lead", "o-1")
    assert not ledger.has("other", "lead", "o-1")
    ledger.append(row("o-1", revenue_origin_id="r-1"))
    assert ledger.has("acme", "sale", "o-1", "r-1")
    assert not ledger.has("acme", "lead", "o-1", "r-1")
    assert ledger.has("acme", "lead", "o-1", "")


def test_a_full_ledger_records_nothing_more() -> None:
    ledger = Ledger(max_rows=1)
    ledger.append(row("o-1"))
    with pytest.raises(LedgerFullError):
        ledger.append(row("o-2"))
    assert ledger.ids() == ["o-1"]


def test_a_file_brings_every_row_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    ledger = Ledger(path=path)
    rows = [row("o-1"), row("ž\ud800", amount=None, currency="")]
    for one in rows:
        ledger.append(one)
    # not closed: a killed process does not close it either
    again = Ledger(path=path)
    assert again.rows == rows
    assert again.has("acme", "sale", "o-1")
    assert again.for_click("acme", "sale", "c-1") == 2
    for opened in (ledger, again):
        opened.close()


def test_half_a_line_left_by_a_kill_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path=path)
    ledger.append(row("o-1"))
    ledger.close()
    path.write_bytes(path.read_bytes() + b'{"tenant":"acme","ty')
    ledger = Ledger(path=path)
    ledger.append(row("o-2"))
    ledger.close()
    final = Ledger(path=path)
    assert final.ids() == ["o-1", "o-2"]
    final.close()


def test_a_file_that_is_no_ledger_is_refused_by_line_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\nworld")
    with pytest.raises(LedgerFileError, match=r"notes\.txt, line 1"):
        Ledger(path=path)
    assert path.read_text() == "hello\nworld"


def test_clear_empties_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path=path)
    ledger.append(row("o-1"))
    ledger.note_duplicate("acme", "sale", "o-1")
    ledger.clear()
    ledger.append(row("o-2"))
    ledger.close()
    assert (ledger.ids(), ledger.duplicates_refused) == (["o-2"], 0)
    assert path.read_text().count("\n") == 1
