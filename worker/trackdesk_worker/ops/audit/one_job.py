"""Checks one job against one snapshot of it."""

import json
from collections.abc import Iterator
from decimal import Decimal

from trackdesk_producer import ConversionInvalid, parse_conversion
from trackdesk_producer.contract.constants import OTHER_TYPES
from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import NO_CURRENCY, JobRecord, State, is_newer
from trackdesk_producer.conversion.wire import fingerprint
from trackdesk_worker.ops.audit.discrepancies import Discrepancy, DiscrepancyKind
from trackdesk_worker.store.dead_letters.causes import NONE, cause_words, references
from trackdesk_worker.store.dead_letters.query import conversion_of
from trackdesk_worker.store.inspection import JobSnapshot, expected_indexes


def readable_id(identity: bytes) -> str:
    """Return an id as readable text, also one of invalid bytes."""
    return identity.decode("utf-8", "backslashreplace")


def read_record(seen: JobSnapshot) -> JobRecord | None:
    """Return the record, or None if there is none that can be read."""
    if seen.raw is None or not seen.typed:
        return None
    try:
        return JobRecord.parse(seen.id.decode(), seen.raw)
    except (ValueError, ArithmeticError):
        return None


def judge(seen: JobSnapshot, record: JobRecord | None, *, with_body: bool) -> Iterator[Discrepancy]:
    """Yield the discrepancies of one job."""
    name = readable_id(seen.id)
    if record is None:
        names = [*seen.indexes, *(["cause_of"] if seen.cause is not None and not seen.indexes else [])]
        names += ["edited"] if seen.edited is not None else []
        held = f"held by index {', '.join(names)}" if names else "in no index"
        if seen.typed and is_newer(seen.raw or b""):
            yield Discrepancy(
                DiscrepancyKind.RECORD_NEWER, "a newer release wrote its record; audit with that one", name
            )
        elif seen.raw is not None:
            yield Discrepancy(DiscrepancyKind.RECORD_UNREADABLE, f"its record has no known format; {held}", name)
        elif names:
            yield Discrepancy(DiscrepancyKind.RECORD_MISSING, held, name)
        return
    yield from _indexes(seen, record, name)
    yield from _header(seen, record, name)
    if with_body and not record.state.terminal:
        for problem in _body(record, seen.edited):
            yield Discrepancy(DiscrepancyKind.CONVERSION_ALTERED, problem, name)


def _indexes(seen: JobSnapshot, record: JobRecord, name: str) -> Iterator[Discrepancy]:
    if NAMES["newer"] in seen.indexes:
        return  # an older release parked it; a worker of this release unparks it within a second
    expected: dict[str, float] = {**expected_indexes(record)}
    if record.state is State.DEAD:
        yield from _filing(seen, record, name)
        if seen.cause is not None:
            amount = -1 if record.amount is None else float(record.amount)
            expected |= {
                f"{NAMES['cause']}{seen.cause}:died": record.at,
                f"{NAMES['cause']}{seen.cause}:amount": amount,
            }
    elif seen.cause is not None:
        yield Discrepancy(DiscrepancyKind.WRONGLY_INDEXED, f"it is {record.state}, but filed under a cause", name)
    for index, score in expected.items():
        if index not in seen.indexes:
            yield Discrepancy(
                DiscrepancyKind.NOT_INDEXED, f"it is {record.state}, but index {index} does not hold it", name
            )
        elif seen.indexes[index] != score:
            detail = f"index {index} holds it at {seen.indexes[index]:.0f}, its record says {score}"
            yield Discrepancy(DiscrepancyKind.WRONG_SCORE, detail, name)
    places, retries = f"{NAMES['places']}{record.tenant}", NAMES["retries"]
    # A job that an older release claimed or scheduled is in neither; nothing depends on that.
    beside = {State.IN_FLIGHT: places, State.SCHEDULED: retries}.get(record.state)
    for index, score in seen.indexes.items():
        if index == beside and (score != record.at if index == places else score > record.at):
            detail = f"index {index} holds it at {score:.0f}, its record says {record.at}"
            yield Discrepancy(DiscrepancyKind.WRONG_SCORE, detail, name)
        elif index not in expected and index != beside:
            yield Discrepancy(
                DiscrepancyKind.WRONGLY_INDEXED, f"it is {record.state}, but index {index} holds it", name
            )


def _filing(seen: JobSnapshot, record: JobRecord, name: str) -> Iterator[Discrepancy]:
    """Check a dead letter's cause, and that its cid and customerId lead to it."""
    conversion = conversion_of(record)
    if seen.cause is None or seen.cause_name is None:
        yield Discrepancy(DiscrepancyKind.NOT_INDEXED, "it is dead, but filed under no cause", name)
    else:
        tenant, reason, _, currency, kind = cause_words(seen.cause_name)
        filed = (tenant, reason, currency, kind)
        kinds = {OTHER_TYPES, str(conversion.get("conversionTypeCode", OTHER_TYPES))}
        if filed[:3] != (record.tenant, record.reason or NONE, record.currency or NONE) or kind not in kinds:
            detail = f"it is filed under the cause {', '.join(filed)}, which is not its own"
            yield Discrepancy(DiscrepancyKind.WRONGLY_INDEXED, detail, name)
    if references(name, conversion) - seen.references:
        yield Discrepancy(
            DiscrepancyKind.NOT_INDEXED, "it is dead, but its cid or customerId does not lead to it", name
        )


def _header(seen: JobSnapshot, record: JobRecord, name: str) -> Iterator[Discrepancy]:
    if seen.edited is not None and record.state.terminal:
        yield Discrepancy(DiscrepancyKind.LEFT_BEHIND, "it has ended and still counts as corrected", name)
    tombstone = (seen.raw or b"").startswith(b"t")
    if tombstone != record.state.terminal:
        form = "a tombstone" if tombstone else "a live record"
        yield Discrepancy(DiscrepancyKind.RECORD_INCONSISTENT, f"it is {record.state} in the form of {form}", name)
    if (record.token > 0) != (record.state is State.IN_FLIGHT):
        yield Discrepancy(
            DiscrepancyKind.RECORD_INCONSISTENT, f"it is {record.state} with fencing token {record.token}", name
        )


def _body(record: JobRecord, edited: str | None) -> Iterator[str]:
    try:
        conversion = parse_conversion(json.loads(record.body))
    except ConversionInvalid as error:
        yield f"its body is not a valid conversion: {error}"
        return
    except (ValueError, RecursionError):
        yield "its body is not JSON"
        return
    if conversion.external_id != record.external_id:
        yield "its body names another externalId"
    amount = None if conversion.amount is None else Decimal(conversion.amount)
    if amount != record.amount:
        yield f"its body has the amount {amount}, its header {record.amount}"
    currency = None if amount is None else conversion.currency or NO_CURRENCY
    if currency != record.currency:
        yield f"its body has the currency {currency}, its header {record.currency}"
    if fingerprint(conversion) != (edited or record.fingerprint):
        written = "accepted" if edited is None else "corrected by an operator"
        yield f"its body is not the one that was {written} (the fingerprint differs)"
