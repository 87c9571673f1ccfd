"""What our dashboards are made of: few kinds of panel, each with its queries, laid out from left to right."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

COLUMNS = 24
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED = "green", "yellow", "red"
TAG = "trackdesk"


class Kind(StrEnum):
    """How a panel shows its queries."""

    NUMBER = "stat"
    LINES = "timeseries"
    BARS = "bargauge"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression; `legend` names its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. Its `id` is part of links in alerts: it stays."""

    id: int
    title: str
    about: str
    queries: Sequence[Query]
    kind: Kind = Kind.LINES
    unit: str = "short"
    width: int = 12
    height: int = 8
    decimals: int | None = None
    warn: float | None = None
    alarm: float | None = None
    """From these values on it is yellow, and red; where less is worse, `alarm` lies below `warn`."""
    stacked: bool = False
    nothing: str = ""
    """What to show where there is no value, if that is good news."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    about: str
    panels: Sequence[Panel]
    by_tenant: bool = False
    """Whether a choice of tenant, `$tenant`, is at the top."""


def render(board: Board) -> str:
    """Return the dashboard as Grafana reads it."""
    built = (
        dashboard.Dashboard(f"Trackdesk: {board.title}")
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Trackdesk")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    if board.by_tenant:
        built = built.with_variable(
            dashboard.QueryVariable("tenant")
            .label("Tenant")
            .datasource(SOURCE)
            .query("label_values(trackdesk_accepted_total, tenant)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .hide(VariableHide.DONT_HIDE)
        )
    x = y = row_height = 0
    for panel in board.panels:
        if x + panel.width > COLUMNS:
            x, y = 0, y + row_height
        built = built.with_panel(_panel(panel).grid_pos(GridPos(h=panel.height, w=panel.width, x=x, y=y)))
        x, row_height = x + panel.width, panel.height
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _panel(panel: Panel) -> Any:
    makers = {Kind.NUMBER: _number, Kind.LINES: _lines, Kind.BARS: _bars, Kind.TABLE: _table}
    built = (
        makers[panel.kind]()
        .id(panel.id)
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
    )
    if panel.decimals is not None:
        built = built.decimals(panel.decimals)
    if panel.nothing:
        built = built.no_value(panel.nothing)
    if panel.stacked:
        built = built.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + number)).datasource(SOURCE)
        if query.legend:
            target = target.legend_format(query.legend)
        if panel.kind in (Kind.TABLE, Kind.BARS):
            target = target.instant()
        if panel.kind is Kind.TABLE:
            target = target.format(PromQueryFormat.TABLE)
        built = built.with_target(target)
    return built


def _number() -> Any:
    return (
        stat.Panel()
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _lines() -> Any:
    return (
        timeseries.Panel()
        .draw_style(GraphDrawStyle.LINE)
        .line_width(2)
        .fill_opacity(8)
        .min(0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )


def _bars() -> Any:
    return (
        bargauge.Panel()
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .min(0)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def _table() -> Any:
    hidden = {"Time": True, "Value": True}
    return table.Panel().with_transformation(DataTransformerConfig("organize", options={"excludeByName": hidden}))


def _thresholds(panel: Panel) -> Any:
    marks = [(at, color) for at, color in ((panel.warn, YELLOW), (panel.alarm, RED)) if at is not None]
    if panel.warn is not None and panel.alarm is not None and panel.alarm < panel.warn:
        steps = [Threshold(None, RED), Threshold(panel.alarm, YELLOW), Threshold(panel.warn, GREEN)]
    else:
        steps = [Threshold(None, GREEN), *(Threshold(at, color) for at, color in marks)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
