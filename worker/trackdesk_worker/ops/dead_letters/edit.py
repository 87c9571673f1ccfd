"""Corrects a dead letter and redrives it: same sale, same externalId, the changes audited.

The correction must keep the rules of enqueue and applies only to the record that the operator saw. Enqueue still
compares with the shop's original, so that a repeat from the shop stays a duplicate.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackdesk_producer import Conversion, ConversionInvalid
from trackdesk_producer.contract.record import NO_CURRENCY, JobRecord, State, type_of
from trackdesk_producer.conversion.model import parse_query
from trackdesk_producer.conversion.names import FIELD_OF_BODY_KEY, FIELD_OF_QUERY_NAME, WIRE_NAMES
from trackdesk_producer.conversion.wire import fingerprint, post_body
from trackdesk_worker.domain.money import in_doubt
from trackdesk_worker.ops.audit_log import Act, Operator, entry_of
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.ops.job_detail import MASK, PERSONAL, flat
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.plans import record_acts
from trackdesk_worker.store.tenant_record import read_tenant_records


class EditInvalid(OpsError):
    """A correction that is refused; the message says why, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one field, by the guide's dotted name; None is no value."""

    field: str
    before: str | None
    """Personal data is masked."""
    after: str | None


@dataclass(frozen=True, slots=True)
class Edit:
    """A proposed correction."""

    job_id: str
    shown: str
    """Identifies the record that the operator saw; for `edit_and_redrive`."""
    diff: tuple[Change, ...]
    errors: tuple[str, ...]
    """Why it is refused; empty if it can be applied."""
    warnings: tuple[str, ...]
    """Allowed, but worth checking."""


@dataclass(frozen=True, slots=True)
class Edited:
    """An applied correction."""

    job_id: str
    diff: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    edit: Edit
    conversion: Conversion | None
    record: JobRecord
    new_key: bool
    """Whether a field changes on which Trackdesk dedupes."""


def propose(store: JobStore, job_id: str, changes: Mapping[str, str | None]) -> Edit:
    """Return what a correction would change, and every rule it would break. Changes nothing.

    Args:
        changes: field → new text, by the names of the guide (``amount.value``, ``customParams.advS1``) or of Python
            (``amount``); None or empty removes the field; coupon codes are separated by commas.

    Raises:
        EditInvalid: if there is no such dead letter.
    """
    return _draft(store, job_id, changes).edit


def edit_and_redrive(
    store: JobStore,
    job_id: str,
    changes: Mapping[str, str | None],
    operator: Operator,
    *,
    expect: str,
) -> Edited:
    """Correct a dead letter and redrive it, in one step.

    Args:
        expect: `Edit.shown` of the proposal that the operator confirmed.

    Raises:
        EditInvalid: if it breaks a rule, or the sale has changed since the operator saw it; nothing was changed.
    """
    draft = _draft(store, job_id, changes)
    edit, conversion = draft.edit, draft.conversion
    if edit.errors or conversion is None:
        raise EditInvalid("; ".join(edit.errors))
    if edit.shown != expect:
        raise EditInvalid(_MOVED)
    changed = [
        {"field": c.field, "before": c.before, "after": MASK if _personal(c.field) and c.after else c.after}
        for c in edit.diff
    ]
    note = {"kind": "edit", "operator": operator.name, "reason": operator.reason, "changes": changed}
    about = {"tenant": draft.record.tenant, "external_id": draft.record.external_id}
    money = {} if conversion.amount is None else {_currency(conversion): conversion.amount}
    entry = entry_of(store, Act.EDIT, operator, count=1, jobs=[about], changes=changed) | {"money": money}
    operation = store.jobs.edit(
        job_id,
        expect=expect,
        body=post_body(conversion),
        amount=conversion.amount,
        currency=_currency(conversion),
        fingerprint=fingerprint(conversion),
        note=json.dumps(note, ensure_ascii=False, separators=(",", ":"))[:-1],
        entry=json.dumps(entry, ensure_ascii=False),
        new_key=draft.new_key,
    )
    reply = store.run(operation)
    if reply != "ok":
        raise EditInvalid(_MOVED if reply in ("changed", "in_doubt") else _no_letter(job_id, reply.rpartition(":")[2]))
    record_acts(store)
    return Edited(job_id, edit.diff)


DEDUPE_KEY = ("conversionTypeCode", "revenueOriginId")
"""What Trackdesk dedupes on, besides the externalId, which never changes."""

_IN_DOUBT = (
    "{field} cannot change now: an attempt may have landed, and Trackdesk would record the sale again under the "
    "new value. Redrive it as it is; or look it up at Trackdesk and, if it is not there, discard it and enqueue it "
    "under a new externalId"
)
_MAY_DIFFER = (
    "an attempt may have landed{content}: if so, Trackdesk keeps that content and refuses the correction, and the sale "
    "is a dead letter again (duplicate_differs)"
)
_MOVED = "the sale has changed since you opened it. Nothing was changed; open it again and repeat the correction"


def _draft(store: JobStore, job_id: str, changes: Mapping[str, str | None]) -> _Draft:
    raw: Any = store.client.get(store.keys.job(job_id))
    try:
        record = None if raw is None else JobRecord.parse(job_id, raw)
        before = {} if record is None or not record.body else flat(json.loads(record.body))
    except (ValueError, ArithmeticError) as error:
        raise EditInvalid("the record of this sale cannot be read; run `trackdesk audit`") from error
    if record is None or record.state is not State.DEAD:
        raise EditInvalid(_no_letter(job_id, "unknown" if record is None else record.state.value))
    wanted = dict(before)
    for name, value in changes.items():
        wanted[_wire_name(name)] = value.split(",") if value and _wire_name(name) == "couponCodes" else value or ""
    errors = [
        f"{field} is part of the sale's identity and cannot change: discard the sale and enqueue it again"
        for field in ("externalId", *(("conversionTypeCode",) if type_of(job_id) else ()))
        if wanted.get(field) != before.get(field)
    ]
    conversion = None
    try:
        conversion = parse_query(wanted)
    except ConversionInvalid as error:
        errors += [str(problem) for problem in error.problems]
    after = wanted if conversion is None else flat(json.loads(post_body(conversion)))
    diff = tuple(
        Change(field, _shown(field, before.get(field), hide=True), _shown(field, after.get(field), hide=False))
        for field in dict.fromkeys([*before, *after])
        if before.get(field, "") != after.get(field, "")
    )
    if not diff and not errors:
        errors.append("nothing would change: to send it as it is, redrive it")
    warnings = () if conversion is None else conversion.warnings()
    new_key = [field for field in DEDUPE_KEY if after.get(field) != before.get(field)]
    (tenant,) = read_tenant_records(store, [record.tenant])
    if record.may_have_landed(tenant.restored_ms):
        errors += [_IN_DOUBT.format(field=field) for field in new_key]
        known = ", ".join(in_doubt(record))
        warnings = (_MAY_DIFFER.format(content=f" with {known}" if known else ""), *warnings)
    shown = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    return _Draft(Edit(job_id, shown, diff, tuple(errors), warnings), conversion, record, bool(new_key))


def _wire_name(name: str) -> str:
    field = FIELD_OF_QUERY_NAME.get(name, FIELD_OF_BODY_KEY.get(name))
    return name if field is None else WIRE_NAMES[field]


def _currency(conversion: Conversion) -> str:
    return conversion.currency or NO_CURRENCY


def _personal(field: str) -> bool:
    return field in PERSONAL or field.startswith("customParams.")


def _shown(field: str, value: str | list[str] | None, *, hide: bool) -> str | None:
    if not value:
        return None
    if hide and _personal(field):
        return MASK
    return ", ".join(value) if isinstance(value, list) else value


def _no_letter(job_id: str, state: str) -> str:
    return f"{job_id!r} is not a dead letter: it is {state.replace('_', ' ')}. Nothing was changed"
