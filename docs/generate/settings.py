"""The settings of a deployment and the keys of a tenant's table."""

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from trackdesk_worker.config.settings import Settings
from trackdesk_worker.config.tenants import TABLE_KEYS

INTRODUCTION = """# Settings

<!-- Generated from `worker/trackdesk_worker/config/settings.py` by `make reference`; do not edit. -->

Settings are environment variables with the prefix `TRACKDESK_`: the first row is `TRACKDESK_REDIS_URL`. For secrets,
`TRACKDESK_<NAME>_FILE` names a file that holds the value. A wrong value stops the process at start, with one sentence
that names the variable and the rule. `trackdesk doctor` checks the settings and the store together.

"""
TENANTS = """
## Per tenant

`TRACKDESK_CONFIG` names a TOML file with one table per tenant; [Several tenants](../guides/tenants.md) explains it. A
table may set:

"""


def render() -> str:
    """Return the page."""
    rows = ["| name | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "" if default in (None, "") or default is PydanticUndefined else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    keys = ", ".join(f"`{key}`" for key in TABLE_KEYS)
    return INTRODUCTION + "\n".join(rows) + "\n" + TENANTS + keys + ".\n"
