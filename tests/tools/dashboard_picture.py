"""Draws a dashboard as Grafana lays it out, from its own JSON and the answers of a real Prometheus, as SVG.

``python -m tests.tools.dashboard_picture`` lives through eight hours of the product in virtual time and writes the
pictures of docs/images/. It draws what our panels use and no more: numbers, lines, bars and tables.
"""

import datetime
import itertools
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tests.support.made_history import Span, make_history
from tests.support.prometheus import (
    Prometheus,
    import_openmetrics,
    import_rules,
    prometheus,
    recording_rules_only,
    rules_config,
)
from tests.support.promql import ROOT

IMAGES = ROOT / "docs/images"
DASHBOARDS = ROOT / "deploy/grafana/dashboards"
WIDTH, CELL_H, GAP, TOP = 1320, 30, 8, 48
COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#c4162a", "#37872d", "#e0b400")
MARKS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c"}
POINTS = 180
TENANT = "acme"


@dataclass(frozen=True)
class Series:
    """One line: its name and its points (s, value)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Moment:
    """Where the answers come from, and for which time."""

    server: Prometheus
    start_s: float
    end_s: float

    def lines(self, target: dict[str, Any]) -> list[Series]:
        """Return the series of a target over the time."""
        step = (self.end_s - self.start_s) / POINTS
        found = self.server.range(_expr(target), self.start_s, self.end_s, step)
        return [Series(_legend(target, one["metric"]), _points(one["values"])) for one in found]

    def values(self, target: dict[str, Any]) -> list[tuple[dict[str, str], float]]:
        """Return what a target says at the end of the time."""
        found = self.server.instant(_expr(target), self.end_s)
        return [(one["metric"], float(one["value"][1])) for one in found]


def _expr(target: dict[str, Any]) -> str:
    return str(target["expr"]).replace("$tenant", TENANT)


def _points(values: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    return [(float(at), float(value)) for at, value in values if math.isfinite(float(value))]


def _legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    text = target.get("legendFormat", "") or ", ".join(labels.values())
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return str(text)


def draw(board: dict[str, Any], moment: Moment) -> str:
    """Return the picture of a dashboard."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    height = TOP + rows * CELL_H + GAP
    chosen = f"   ·   tenant: {TENANT}" if any(v["name"] == "tenant" for v in board["templating"]["list"]) else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="Arial,sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#111217"/>',
        _text(GAP + 4, 30, board["title"] + chosen, 18, "#d8d9da", "600"),
    ]
    for panel in board["panels"]:
        at = panel["gridPos"]
        x, y = GAP / 2 + at["x"] * (WIDTH - GAP) / 24, TOP + at["y"] * CELL_H
        box = _Box(x + GAP / 2, y, at["w"] * (WIDTH - GAP) / 24 - GAP, at["h"] * CELL_H - GAP)
        parts.append(
            f'<rect x="{box.x:.1f}" y="{box.y}" width="{box.w:.1f}" height="{box.h}" rx="3" '
            'fill="#181b1f" stroke="#2a2d33"/>'
        )
        parts.append(_text(box.x + 10, box.y + 20, panel["title"], 13, "#d8d9da", "600"))
        inner = _Box(box.x + 10, box.y + 30, box.w - 20, box.h - 38)
        parts += DRAWERS[panel["type"]](panel, moment, inner)
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    w: float
    h: float


def _text(
    x: float, y: float, text: str, size: float, color: str = "#9fa1a6", weight: str = "400", anchor: str = ""
) -> str:
    extra = f' text-anchor="{anchor}"' if anchor else ""
    weight = f' font-weight="{weight}"' if weight != "400" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{color}"{weight}{extra}>{escape(text)}</text>'


def _number(panel: dict[str, Any], moment: Moment, box: _Box) -> list[str]:
    values = [
        (_legend(target, labels), value) for target in panel["targets"] for labels, value in moment.values(target)
    ]
    if not values:
        return _nothing(panel, box)
    each = box.w / len(values)
    parts = []
    for number, (name, value) in enumerate(values):
        middle = box.x + each * (number + 0.5)
        size = min(40.0, box.h * 0.45, each / max(4, len(_say(panel, value))) * 1.35)
        parts.append(
            _text(middle, box.y + box.h * 0.55, _say(panel, value), size, _color(panel, value), "600", "middle")
        )
        if len(values) > 1:
            parts.append(_text(middle, box.y + box.h * 0.55 + 20, name, 12, anchor="middle"))
    return parts


def _bars(panel: dict[str, Any], moment: Moment, box: _Box) -> list[str]:
    values = [
        (_legend(target, labels), value) for target in panel["targets"] for labels, value in moment.values(target)
    ]
    if not values:
        return _nothing(panel, box)
    most, parts = max(value for _, value in values) or 1, []
    row = min(30.0, box.h / len(values))
    for number, (name, value) in enumerate(values):
        y = box.y + number * row
        parts.append(_text(box.x, y + row * 0.65, name, 12, "#d8d9da"))
        length = (box.w - 240) * value / most
        parts.append(
            f'<rect x="{box.x + 180:.1f}" y="{y + 3:.1f}" width="{length:.1f}" height="{row - 6:.1f}" fill="#73bf69"/>'
        )
        parts.append(_text(box.x + box.w, y + row * 0.65, _say(panel, value), 12, "#d8d9da", anchor="end"))
    return parts


def _table(panel: dict[str, Any], moment: Moment, box: _Box) -> list[str]:
    rows = [labels for target in panel["targets"] for labels, _ in moment.values(target)]
    if not rows:
        return _nothing(panel, box)
    names = list(rows[0])
    parts = []
    for column, name in enumerate(names):
        x = box.x + column * box.w / len(names)
        parts.append(_text(x, box.y + 14, name, 12, "#6e9fff", "600"))
        parts += [_text(x, box.y + 38 + 22 * number, row[name], 12, "#d8d9da") for number, row in enumerate(rows)]
    return parts


def _nothing(panel: dict[str, Any], box: _Box) -> list[str]:
    said = panel["fieldConfig"]["defaults"].get("noValue", "No data")
    return [_text(box.x + box.w / 2, box.y + box.h / 2, said, 16, anchor="middle")]


def _lines(panel: dict[str, Any], moment: Moment, box: _Box) -> list[str]:
    series = [one for target in panel["targets"] for one in moment.lines(target) if one.points]
    if not series:
        return _nothing(panel, box)
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    shown = _stack(series) if stacked else [(one, [0.0] * len(one.points)) for one in series]
    top = _round_up(max(value for one, _ in shown for _, value in one.points))
    legend_rows, legend = _legend_rows(series, box)
    plot = _Box(box.x + 46, box.y + 6, box.w - 50, box.h - 30 - 16 * legend_rows)

    def place(at: float, value: float) -> tuple[float, float]:
        across = (at - moment.start_s) / (moment.end_s - moment.start_s)
        return plot.x + across * plot.w, plot.y + plot.h * (1 - min(value, top) / top)

    parts = _axes(panel, moment, plot, top, place)
    for number, (one, floor) in reversed(list(enumerate(shown))):
        color = COLORS[number % len(COLORS)]
        corners = [place(at, value) for at, value in one.points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        if stacked:
            ground = " ".join(
                f"{x:.1f},{y:.1f}"
                for x, y in reversed([place(at, low) for (at, _), low in zip(one.points, floor, strict=True)])
            )
            parts.append(f'<polygon points="{line} {ground}" fill="{color}" fill-opacity="0.35"/>')
        for piece in _pieces(one.points, (moment.end_s - moment.start_s) / POINTS):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(at, value) for at, value in piece))
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>')
    return parts + legend


def _pieces(points: Sequence[tuple[float, float]], step: float) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[points[0]]]
    for before, after in itertools.pairwise(points):
        if after[0] - before[0] > 1.5 * step:
            pieces.append([])
        pieces[-1].append(after)
    return pieces


def _axes(
    panel: dict[str, Any], moment: Moment, plot: _Box, top: float, place: Callable[[float, float], tuple[float, float]]
) -> list[str]:
    parts = []
    for quarter in range(5):
        value = top * quarter / 4
        _, y = place(moment.start_s, value)
        parts.append(f'<line x1="{plot.x:.1f}" x2="{plot.x + plot.w:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="#2a2d33"/>')
        parts.append(_text(plot.x - 6, y + 4, _say(panel, value), 10, anchor="end"))
    for part in range(5):
        at = moment.start_s + (moment.end_s - moment.start_s) * part / 4
        hour = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%H:%M")
        anchor = "middle" if 0 < part < 4 else ("start" if part == 0 else "end")
        parts.append(_text(place(at, 0)[0], plot.y + plot.h + 14, hour, 10, anchor=anchor))
    return parts


def _legend_rows(series: Sequence[Series], box: _Box) -> tuple[int, list[str]]:
    places, x, row = [], 0.0, 0
    for one in series:
        width = 30 + 6.4 * len(one.name)
        if x and x + width > box.w:
            x, row = 0.0, row + 1
        places.append((x, row))
        x += width
    parts = []
    for number, ((x, at_row), one) in enumerate(zip(places, series, strict=True)):
        y = box.y + box.h - 16 * (row - at_row) - 2
        color = COLORS[number % len(COLORS)]
        parts.append(f'<rect x="{box.x + x:.1f}" y="{y - 7:.1f}" width="12" height="4" fill="{color}"/>')
        parts.append(_text(box.x + x + 16, y, one.name, 11))
    return row + 1, parts


def _stack(series: Sequence[Series]) -> list[tuple[Series, list[float]]]:
    times = sorted({at for one in series for at, _ in one.points})
    floor = dict.fromkeys(times, 0.0)
    shown = []
    for one in series:
        own = dict(one.points)
        points = [(at, floor[at] + own.get(at, 0.0)) for at in times]
        shown.append((Series(one.name, points), [floor[at] for at in times]))
        floor = dict(points)
    return shown


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    step = 10 ** math.floor(math.log10(value))
    return next(step * part for part in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * part >= value * 0.999)


def _color(panel: dict[str, Any], value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    color = next(step["color"] for step in reversed(steps) if step["value"] is None or value >= step["value"])
    return MARKS[color]


def _say(panel: dict[str, Any], value: float) -> str:
    match panel["fieldConfig"]["defaults"].get("unit"):
        case "percentunit":
            return f"{value * 100:.4g} %"
        case "s":
            return _duration(value)
        case "bytes":
            return f"{value / 1_048_576:.3g} MiB"
        case "reqps":
            return f"{value:.3g}/s"
        case _:
            return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(value: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if value >= length * 1.5:
            return f"{value / length:.3g} {unit}"
    return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1000:.3g} ms"


DRAWERS = {"stat": _number, "bargauge": _bars, "table": _table, "timeseries": _lines}


def main(hours: float = 8.0) -> None:
    """Write all pictures."""
    with tempfile.TemporaryDirectory(prefix="trackdesk-pictures-") as name:
        directory = Path(name)
        span = Span(hours, time.time_ns() // 1_000_000_000 * 1000)
        file = directory / "day.om"
        make_history(directory, span, file)
        import_openmetrics(file, directory)
        rules = directory / "objectives-recorded.yml"
        rules.write_text(recording_rules_only(), "utf-8")
        start_s, end_s = span.start_ms / 1000, span.end_ms / 1000
        quiet = {**rules_config(), "rule_files": []}
        for _ in range(2):  # a recorded series is there for the rules behind it only after a restart
            with prometheus(directory, quiet) as server:
                import_rules(server, directory, rules, (start_s, end_s))
        IMAGES.mkdir(exist_ok=True)
        with prometheus(directory, quiet) as server:
            moment = Moment(server, start_s + 600, end_s)
            for board in sorted(DASHBOARDS.glob("*.json")):
                picture = draw(json.loads(board.read_text("utf-8")), moment)
                (IMAGES / f"{board.stem}.svg").write_text(picture, "utf-8")


if __name__ == "__main__":
    main()
