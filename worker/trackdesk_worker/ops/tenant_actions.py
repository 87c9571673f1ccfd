"""Operators' actions on a tenant, or on one waiting sale."""

from typing import Any

from trackdesk_producer import Cancellation, CancelStatus, Producer
from trackdesk_producer.contract.record import JobRecord, external_id_of, tenant_of, type_of
from trackdesk_worker.ops.audit_log import Act, Operator, record
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Money


class TenantUnknown(OpsError):
    """No job of this tenant was ever accepted; the name is probably misspelled."""


def pause(store: JobStore, tenant: str, operator: Operator) -> bool:
    """Stop claims of a tenant's jobs; requests in flight end. Return whether that changed anything.

    Raises:
        TenantUnknown: if the tenant never had a job.
    """
    _check_known(store, tenant)
    changed = store.run(store.jobs.pause(tenant, operator=operator.name, reason=operator.reason))
    if changed:
        record(store, Act.PAUSE, operator, count=0, tenant=tenant)
    return changed


def resume(store: JobStore, tenant: str, operator: Operator) -> bool:
    """End a pause or a freeze, and try a held tenant now. Return whether that changed anything.

    Raises:
        TenantUnknown: if the tenant never had a job.
    """
    _check_known(store, tenant)
    changed = store.run(store.jobs.resume(tenant))
    if changed:
        record(store, Act.RESUME, operator, count=0, tenant=tenant)
    return changed


def restored(store: JobStore, tenant: str | None, operator: Operator, *, since_ms: int | None = None) -> int:
    """Record that the store may have lost deliveries, of one tenant or of all; return the number of tenants.

    Args:
        since_ms: the time of the backup or failover; an "already exists" after it is not a refusal.

    Raises:
        TenantUnknown: if the tenant never had a job.
    """
    if tenant is not None:
        _check_known(store, tenant)
    count = store.run(store.jobs.restored(tenant, since_ms=since_ms))
    record(store, Act.RESTORED, operator, count=0, tenant=tenant)
    return count


def cancel(store: JobStore, producer: Producer, identity: str, operator: Operator) -> Cancellation:
    """Cancel a sale that waits and cannot have reached Trackdesk."""
    money = _money(store, identity)
    tenant, external_id = tenant_of(identity), external_id_of(identity)
    result = producer.cancel(external_id, tenant=tenant, conversion_type=type_of(identity))
    if result.status is CancelStatus.CANCELLED:
        jobs = [{"tenant": tenant, "external_id": external_id}]
        record(store, Act.CANCEL, operator, count=1, money=money, jobs=jobs)
    return result


def _check_known(store: JobStore, tenant: str) -> None:
    if not store.client.sismember(store.keys.tenants, tenant):
        raise TenantUnknown(f"tenant {tenant} never had a sale in this store; check its name")


def _money(store: JobStore, identity: str) -> Money:
    raw: Any = store.client.get(store.keys.job(identity))
    try:
        found = JobRecord.parse(identity, raw or b"")
    except ValueError:  # pruned or unreadable: the cancellation reports it
        return {}
    return {} if found.amount is None or found.currency is None else {found.currency: found.amount}
