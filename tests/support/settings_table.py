"""The settings as README's table: ``python -m tests.support.settings_table`` writes it there."""

from pathlib import Path

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from trackdesk_worker.settings import Settings

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- settings: written by `python -m tests.support.settings_table`", "<!-- /settings -->"


def rows() -> list[str]:
    """Return a table row per setting, in the order of the code."""
    found = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "" if default in (None, "") or default is PydanticUndefined else f"`{default}`"
        found.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return found


def page() -> str:
    """Return the README with the table as it has to be."""
    text = README.read_text("utf-8")
    before, _, rest = text.partition(START)
    comment, _, rest = rest.partition("\n")
    after = rest.partition(END)[2]
    return (
        f"{before}{START}{comment}\n"
        + "\n".join(["", "| name | default | meaning |", "|---|---|---|", *rows(), ""])
        + f"\n{END}{after}"
    )


if __name__ == "__main__":
    README.write_text(page(), "utf-8")
