"""Walks every key of a namespace, in batches and flat memory."""

from collections.abc import Iterable, Iterator
from decimal import localcontext
from typing import Any

import redis

from trackdesk_producer.contract.constants import REFERENCE_DIGITS
from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import is_newer
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.audit.discrepancies import Discrepancy, DiscrepancyKind, Findings
from trackdesk_worker.ops.audit.one_job import judge, read_record, readable_id
from trackdesk_worker.ops.audit.sums import DIGEST_MASK, Tally
from trackdesk_worker.store.inspection import inspect
from trackdesk_worker.store.job_store import JobStore

SCAN = 1000
SEEN_AT_ONCE = 100
"""Jobs per inspection: about a millisecond of the store's time."""
_EXACT_DIGITS = 60


def walk_records(store: JobStore, findings: Findings) -> Tally:
    """Check every record, index entry, prune list and history; add the records up."""
    tally = Tally()
    with localcontext(prec=_EXACT_DIGITS):
        for batch in _batched(_scan(store), SCAN):
            _classify(store, batch, tally, findings)
    for index in sorted(tally.indexes):
        for batch in _batched(_members(store, index, findings), SEEN_AT_ONCE):
            for seen in inspect(store, [(identity, index) for identity in batch]):
                _note(judge(seen, read_record(seen), with_body=False), findings)
    _walk_filing(store, findings)
    _walk_buckets(store, tally, findings)
    return tally


def _scan(store: JobStore) -> Iterator[bytes]:
    found: Iterator[Any] = store.client.scan_iter(match=f"{store.keys.prefix}*", count=SCAN)
    return found


def _members(store: JobStore, index: str, findings: Findings) -> Iterator[bytes]:
    try:
        for member, _ in store.client.zscan_iter(store.keys.prefix + index, count=SCAN):
            yield member
    except redis.ResponseError:
        findings.add(Discrepancy(DiscrepancyKind.RECORD_UNREADABLE, f"index {index} is not a sorted set"))


def _classify(store: JobStore, names: list[bytes], tally: Tally, findings: Findings) -> None:
    prefix = len(store.keys.prefix.encode())
    jobs, histories = [], []
    for name in names:
        family, separator, rest = name[prefix:].partition(b":")
        if not separator:
            continue
        if family not in (b"job", b"history") and not _is_text(rest):
            findings.add(
                Discrepancy(
                    DiscrepancyKind.RECORD_UNREADABLE, f"key {readable_id(name)} has a name that no release uses"
                )
            )
            continue
        match family + b":":
            case b"job:":
                jobs.append(rest)
            case b"history:":
                histories.append(rest)
            case b"ready:" | b"places:":
                tally.indexes.add(text(name[prefix:]))
            case b"cause:":
                tally.indexes.add(text(name[prefix:]))
                tally.causes.add(text(rest).partition(":")[0])
            case b"ledger:":
                tally.tenants.add(text(rest))
            case b"tombstones:":
                tally.buckets.add(text(rest))
    for start in range(0, len(jobs), SEEN_AT_ONCE):
        for seen in inspect(store, [(identity, "") for identity in jobs[start : start + SEEN_AT_ONCE]]):
            record = read_record(seen)
            if record is not None:
                tally.add(record, seen.id)
            elif is_newer(seen.raw or b""):
                tally.newer += 1
            _note(judge(seen, record, with_body=True), findings)
    _check_histories(store, histories, findings)


def _check_histories(store: JobStore, ids: list[bytes], findings: Findings) -> None:
    if not ids:
        return
    prefix = (store.keys.prefix + NAMES["history"]).encode()
    record_prefix = (store.keys.prefix + NAMES["job"]).encode()
    with store.client.pipeline(transaction=True) as pipeline:  # at one moment: a job's end removes both
        for identity in ids:
            pipeline.exists(prefix + identity)
            pipeline.getrange(record_prefix + identity, 0, 0)
        replies = pipeline.execute(raise_on_error=False)
    for identity, there, first in zip(ids, replies[::2], replies[1::2], strict=True):
        if there == 1 and first == b"":
            findings.add(Discrepancy(DiscrepancyKind.RECORD_MISSING, "it has a history", readable_id(identity)))
        elif there == 1 and first == b"t":
            findings.add(
                Discrepancy(DiscrepancyKind.LEFT_BEHIND, "it has ended and still has a history", readable_id(identity))
            )


def _walk_filing(store: JobStore, findings: Findings) -> None:
    """Check the indexes of causes and of cids and customerIds, entry by entry."""
    for name in ("cause_of", "edited"):
        try:
            filed: Iterator[Any] = store.client.hscan_iter(store.keys.prefix + NAMES[name], count=SCAN)
            for batch in _batched((identity for identity, _ in filed), SEEN_AT_ONCE):
                for seen in inspect(store, [(identity, "") for identity in batch]):
                    _note(judge(seen, read_record(seen), with_body=False), findings)
        except redis.ResponseError:
            findings.add(Discrepancy(DiscrepancyKind.RECORD_UNREADABLE, f"index {name} is not a hash"))
    for batch in _batched(_members(store, NAMES["dead_references"], findings), SEEN_AT_ONCE):
        ids = [entry[REFERENCE_DIGITS:] for entry in batch]
        snapshots = inspect(store, [(identity, "") for identity in ids])
        for entry, seen in zip(batch, snapshots, strict=True):
            # The end of a dead letter removes its references: only an entry that is still there now is wrong.
            if (
                text(entry) not in seen.references
                and store.client.zscore(store.keys.dead_references, entry) is not None
            ):
                detail = "index dead_references leads to it, but it is not a dead letter of that person"
                findings.add(Discrepancy(DiscrepancyKind.WRONGLY_INDEXED, detail, readable_id(seen.id)))


def _walk_buckets(store: JobStore, tally: Tally, findings: Findings) -> None:
    for hour in sorted(tally.buckets):
        if store.client.zscore(store.keys.tombstones, hour) is None and store.client.exists(
            store.keys.tombstone_bucket(hour)
        ):
            findings.add(
                Discrepancy(DiscrepancyKind.NOT_PRUNABLE, f"prune list {hour} is in no index and would never be pruned")
            )
        for batch in _batched(_listed(store, store.keys.tombstone_bucket(hour), findings), SEEN_AT_ONCE):
            tally.filed += len(batch)
            tally.filed_digest = (tally.filed_digest + sum(map(hash, batch))) & DIGEST_MASK
            for seen in inspect(store, [(identity, "") for identity in batch]):
                record = read_record(seen)
                if (record is not None and record.state.terminal) or is_newer(seen.raw or b""):
                    continue
                # Pruning removes both in one step: only an entry that is still listed now is wrong.
                if store.client.lpos(store.keys.tombstone_bucket(hour), seen.id) is not None:  # type: ignore[arg-type]
                    kind = DiscrepancyKind.RECORD_MISSING if record is None else DiscrepancyKind.WRONGLY_INDEXED
                    state = "has no record" if record is None else f"is {record.state}"
                    findings.add(Discrepancy(kind, f"prune list {hour} names it, but it {state}", readable_id(seen.id)))


def name_unfiled(store: JobStore, tally: Tally, findings: Findings) -> None:
    """Find the tombstones that no prune list names, or more than one; for a store without changes.

    Runs only if the sums say that there are any: it needs memory, some 60 bytes per tombstone.
    """
    if (tally.filed, tally.filed_digest) == (tally.tombstones, tally.tombstone_digest):
        return
    listed: set[int] = set()
    for hour in sorted(tally.buckets):
        for identity in _listed(store, store.keys.tombstone_bucket(hour), findings):
            if hash(identity) in listed:
                findings.add(
                    Discrepancy(DiscrepancyKind.NOT_PRUNABLE, "prune lists name it twice", readable_id(identity))
                )
            listed.add(hash(identity))
    prefix = len((store.keys.prefix + NAMES["job"]).encode())
    names = (name for name in _scan(store) if name.startswith((store.keys.prefix + NAMES["job"]).encode()))
    for batch in _batched((name[prefix:] for name in names), SEEN_AT_ONCE):
        unlisted = [identity for identity in batch if hash(identity) not in listed]
        if not unlisted:
            continue
        for seen in inspect(store, [(identity, "") for identity in unlisted]):
            record = read_record(seen)
            if record is not None and record.state.terminal:
                findings.add(
                    Discrepancy(DiscrepancyKind.NOT_PRUNABLE, "it has ended, but no prune list names it", record.id)
                )


def _listed(store: JobStore, key: str, findings: Findings) -> Iterator[bytes]:
    start = 0
    while True:
        try:
            page: Any = store.client.lrange(key, start, start + SCAN - 1)
        except redis.ResponseError:
            findings.add(Discrepancy(DiscrepancyKind.RECORD_UNREADABLE, f"prune list {key} is not a list"))
            return
        yield from page
        if len(page) < SCAN:
            return
        start += SCAN


def _note(discrepancies: Iterable[Discrepancy], findings: Findings) -> None:
    for discrepancy in discrepancies:
        findings.add(discrepancy)


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _batched(items: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
