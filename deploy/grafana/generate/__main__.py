"""Writes the dashboards."""

from deploy.grafana.generate.boards import BOARDS, DIRECTORY
from deploy.grafana.generate.panels import render

for board in BOARDS:
    (DIRECTORY / f"{board.uid}.json").write_text(render(board), "utf-8")
