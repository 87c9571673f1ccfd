"""The dashboards: what is committed is what the code makes, and a real Prometheus answers every query of theirs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.generate.boards import BOARDS, DIRECTORY
from deploy.grafana.generate.panels import Board, render
from tests.support.made_history import Span, make_history
from tests.support.prometheus import Prometheus, import_openmetrics, prometheus, recording_rules_only, rules_config
from tests.support.promql import PROMETHEUS, ROOT, strangers
from tests.support.waiting import wait_until

QUERIES = [
    pytest.param(panel["type"], target["expr"], id=f"{board.uid}-{panel['id']}{target['refId']}")
    for board in BOARDS
    for panel in json.loads(render(board))["panels"]
    for target in panel["targets"]
]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_committed_dashboard_is_the_one_the_code_makes(board: Board) -> None:
    assert (DIRECTORY / f"{board.uid}.json").read_text("utf-8") == render(board), (
        "run .venv/bin/python -m deploy.grafana.generate"
    )


def test_there_is_no_other_dashboard() -> None:
    assert {file.stem for file in DIRECTORY.glob("*.json")} == {board.uid for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_have_ids_of_their_own_and_do_not_overlap(board: Board) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(render(board))["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not taken & cells
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["description"]
    ids = [panel.id for panel in board.panels]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_no_transformation_of_a_table_is_disabled(board: Board) -> None:
    panels = json.loads((DIRECTORY / f"{board.uid}.json").read_text("utf-8"))["panels"]
    for transformation in (one for panel in panels for one in panel.get("transformations", [])):
        assert not transformation.get("disabled")
        assert transformation["options"]


@pytest.mark.parametrize(("kind", "expr"), QUERIES)
def test_a_query_asks_only_for_what_is_exported(kind: str, expr: str) -> None:
    assert strangers(expr.replace("$tenant", "acme")) == []


def test_grafana_finds_the_dashboards_and_the_data_source_where_compose_puts_them() -> None:
    provisioning = DIRECTORY.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    (provider,) = yaml.safe_load((provisioning / "dashboards/trackdesk.yml").read_text("utf-8"))["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["grafana"]["volumes"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in compose


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, Span]]:
    """An hour that the product lived through, in a Prometheus of its own."""
    directory = tmp_path_factory.mktemp("history")
    span = Span(0.75, time.time_ns() // 1_000_000_000 * 1000, every_s=30)
    file = directory / "hour.om"
    make_history(directory, span, file)
    import_openmetrics(file, directory)
    rules: dict[str, str | Path] = {"objectives.yml": recording_rules_only(), "rules.yml": PROMETHEUS / "rules.yml"}
    with prometheus(directory, rules_config(), rules) as server:
        yield server, span


@pytest.mark.xdist_group("dashboards")
def test_a_real_prometheus_answers_every_query_with_data_the_product_made(history: tuple[Prometheus, Span]) -> None:
    server, span = history
    start_s, end_s = span.start_ms / 1000, span.end_ms / 1000
    wait_until(lambda: bool(server.instant("trackdesk:sales_late:ratio6h")), "the rules have run once", poll_s=0.1)
    empty: list[str] = []
    for param in QUERIES:
        kind, expr = param.values
        expr = expr.replace("$tenant", "acme")
        answer: list[Any]
        if "trackdesk:" in expr:
            answer = server.instant(expr)
        elif kind in ("table", "bargauge"):
            answer = server.instant(expr, end_s)
        else:
            answer = server.range(expr, start_s, end_s, 60)
        if not answer:
            empty.append(f"{param.id}: {expr}")
    assert empty == []


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_picture_shows_every_panel_of_today_with_data(board: Board) -> None:
    picture = (ROOT / f"docs/images/{board.uid}.svg").read_text("utf-8")
    for panel in board.panels:
        assert f">{panel.title}</text>" in picture, "make pictures draws it"
    assert "No data" not in picture
