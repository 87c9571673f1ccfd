"""The reference pages, made from the code: ``python -m docs.generate`` writes them, ``--check`` compares them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate import command_line, http_api, metrics, reasons, settings

REFERENCE = Path(__file__).parents[1] / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings.render,
    "metrics.md": metrics.render,
    "command-line.md": command_line.render,
    "reasons.md": reasons.render,
    "http-api.md": http_api.render,
    "openapi.json": http_api.render_document,
}
"""File of docs/reference → what it has to say. The Python API is made by Sphinx from the docstrings themselves."""


def outdated() -> list[str]:
    """Return the pages that differ from the code."""
    return [name for name, render in PAGES.items() if not _is_current(REFERENCE / name, render())]


def write() -> None:
    """Write every page."""
    for name, render in PAGES.items():
        (REFERENCE / name).write_text(render(), "utf-8")


def _is_current(page: Path, text: str) -> bool:
    return page.exists() and page.read_text("utf-8") == text
