"""The form that corrects a dead letter: which fields it has, and which changes it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.record import type_of
from trackdesk_producer.conversion.names import QUERY_NAMES
from trackdesk_worker.ops.job_detail import MASK, flat_text

FIELD = "field."
"""What the names of the form's fields begin with."""
TAKE_AWAY = "take."
"""The box that takes a field away whose value is not shown."""
IDENTITY = "externalId"


@dataclass(frozen=True, slots=True)
class EditField:
    """One field of the conversion."""

    name: str
    """The guide's dotted name."""
    value: str
    """What it holds now; empty if it holds nothing, or nothing that is shown."""
    masked: bool
    """Whether it holds something that is not shown: left empty, it stays."""


def edit_fields(job_id: str, conversion: Mapping[str, Any], given: Mapping[str, str]) -> list[EditField]:
    """Return the fields, with what somebody has typed already in place of what they hold."""
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
    """Return what a form that was sent changes: by name the new text, None to take a field away."""
    changes: dict[str, str | None] = {}
    for field in fields:
        text = given.get(FIELD + field.name)
        if text is None:
            continue
        if not field.masked:
            changes[field.name] = text.strip() or None
        elif text.strip():
            changes[field.name] = text.strip()
        elif TAKE_AWAY + field.name in given:
            changes[field.name] = None
    return changes
