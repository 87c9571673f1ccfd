"""The form that corrects a dead letter: its fields, and the changes it submits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.record import type_of
from trackdesk_producer.conversion.names import QUERY_NAMES
from trackdesk_worker.ops.job_detail import MASK, flat_text

FIELD = "field."
"""Prefix of the form's field names."""
REMOVE = "take."
"""Prefix of the check boxes that remove a field whose value is hidden."""
IDENTITY = "externalId"


@dataclass(frozen=True, slots=True)
class EditField:
    """One field of the conversion."""

    name: str
    """The guide's dotted name."""
    value: str
    """Its current value; empty if there is none, or it is hidden."""
    masked: bool
    """Whether its value is hidden: left empty, it is kept."""


def edit_fields(job_id: str, conversion: Mapping[str, Any], given: Mapping[str, str]) -> list[EditField]:
    """Return the fields, with submitted text in place of the current value."""
    now = flat_text(conversion, ",")
    fixed = {IDENTITY} | ({"conversionTypeCode"} if type_of(job_id) is not None else set())
    names = [name for name in dict.fromkeys([*now, *QUERY_NAMES]) if name not in fixed]
    made = []
    for name in names:
        masked = now.get(name) == MASK
        held = "" if masked else now.get(name, "")
        made.append(EditField(name, given.get(FIELD + name, held), masked))
    return made


def changes_of(fields: list[EditField], given: Mapping[str, str]) -> dict[str, str | None]:
    """Return the changes that a form submits: new text by field name, None to remove the field."""
    changes: dict[str, str | None] = {}
    for field in fields:
        text = given.get(FIELD + field.name)
        if text is None:
            continue
        if not field.masked:
            changes[field.name] = text.strip() or None
        elif text.strip():
            changes[field.name] = text.strip()
        elif REMOVE + field.name in given:
            changes[field.name] = None
    return changes
