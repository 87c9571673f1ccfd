"""Checks the audit log against its hash chain."""

from collections.abc import Iterator
from typing import Any

import redis

from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.audit.discrepancies import Discrepancy, DiscrepancyKind, Findings
from trackdesk_worker.store.audit_chain import START, ChainVerdict, follow
from trackdesk_worker.store.job_store import JobStore

PAGE = 1000


def check_audit_log(store: JobStore, findings: Findings, *, sought: str | None) -> ChainVerdict:
    """Follow the chain to its end at the time of the call; later entries are for the next audit.

    Args:
        sought: a head that an earlier audit reported; it must still be in the chain.
    """
    length, kept = store.transaction(
        [("LLEN", store.keys.audit_log), ("GET", store.keys.audit_log_head)], raise_on_error=False
    )
    if isinstance(length, redis.ResponseError):
        findings.add(Discrepancy(DiscrepancyKind.AUDIT_LOG_ALTERED, "the audit log is not a list"))
        return ChainVerdict(0, START, 1, sought is None)
    verdict = follow(_entries(store, length), sought=sought)
    if verdict.broken_at is not None:
        detail = f"entry {verdict.broken_at} of the audit log was altered"
        findings.add(Discrepancy(DiscrepancyKind.AUDIT_LOG_ALTERED, detail))
    elif _head(kept) != (f"{verdict.entries} {verdict.head}" if verdict.entries else None):
        detail = f"the audit log ends with entry {verdict.entries}, which is not the last one that was written"
        findings.add(Discrepancy(DiscrepancyKind.AUDIT_LOG_ALTERED, detail))
    if not verdict.met:
        findings.add(Discrepancy(DiscrepancyKind.AUDIT_LOG_ALTERED, "the head you named is no longer in the audit log"))
    return verdict


def check_set_aside(store: JobStore, findings: Findings) -> None:
    """Report what was set aside so that it blocks nothing else."""
    place = f"see {store.keys.audit_log_unreadable}, and delete that key once you know what was done"
    acts, plans = store.transaction(
        [("LLEN", store.keys.audit_log_unreadable), ("SMEMBERS", store.keys.plans_unreadable)], raise_on_error=False
    )
    if isinstance(acts, redis.ResponseError):
        detail = f"{store.keys.audit_log_unreadable} is not a list: {acts}"
        findings.add(Discrepancy(DiscrepancyKind.AUDIT_LOG_UNREADABLE, detail))
        acts = 0
    if isinstance(plans, redis.ResponseError):
        detail = f"{store.keys.plans_unreadable} is not a set: {plans}"
        findings.add(Discrepancy(DiscrepancyKind.PLAN_UNREADABLE, detail))
        plans = ()
    for number in range(1, int(acts) + 1):
        findings.add(
            Discrepancy(DiscrepancyKind.AUDIT_LOG_UNREADABLE, f"action {number} could not be recorded: {place}")
        )
    for plan_id in sorted(map(text, plans)):
        detail = f"plan {plan_id} is stored as something other than a plan: it does not run, its sales are unchanged"
        findings.add(Discrepancy(DiscrepancyKind.PLAN_UNREADABLE, detail))


def _entries(store: JobStore, length: int) -> Iterator[bytes]:
    for start in range(0, length, PAGE):
        page: Any = store.client.lrange(store.keys.audit_log, start, min(length, start + PAGE) - 1)
        yield from page


def _head(kept: Any) -> str | None:
    return text(kept) if isinstance(kept, bytes) else None
