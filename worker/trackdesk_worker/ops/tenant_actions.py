"""Operators' acts on a tenant or on one sale that waits."""

from typing import Any

import redis

from trackdesk_producer import Cancellation, CancelStatus, Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, external_id_of, tenant_of, type_of
from trackdesk_producer.contract.runner import run
from trackdesk_worker.ops.audit_log import Act, Operator, record
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.store.jobs import Jobs
from trackdesk_worker.store.ledger import Money


class TenantUnknown(OpsError):
    """No job of this tenant was ever accepted: probably a slip in the name."""


def pause(client: redis.Redis, keys: Keys, tenant: str, operator: Operator) -> bool:
    """Stop claims of a tenant's jobs; requests in flight end. Return whether that changed anything.

    Raises:
        TenantUnknown: if the tenant never had a job.
    """
    _check_known(client, keys, tenant)
    changed = run(client, Jobs(keys).pause(tenant, operator=operator.name, reason=operator.reason))
    if changed:
        record(client, keys, Act.PAUSE, operator, count=0, tenant=tenant)
    return changed


def resume(client: redis.Redis, keys: Keys, tenant: str, operator: Operator) -> bool:
    """End a pause or a freeze, and try a held tenant now. Return whether that changed anything.

    Raises:
        TenantUnknown: if the tenant never had a job.
    """
    _check_known(client, keys, tenant)
    changed = run(client, Jobs(keys).resume(tenant))
    if changed:
        record(client, keys, Act.RESUME, operator, count=0, tenant=tenant)
    return changed


def restored(
    client: redis.Redis, keys: Keys, tenant: str | None, operator: Operator, *, since_ms: int | None = None
) -> int:
    """Note that the store may have forgotten deliveries, of one tenant or of all; return of how many.

    Args:
        since_ms: the time of the backup or failover; an "already exists" since then refused nothing.

    Raises:
        TenantUnknown: if the tenant never had a job.
    """
    if tenant is not None:
        _check_known(client, keys, tenant)
    count = run(client, Jobs(keys).restored(tenant, since_ms=since_ms))
    record(client, keys, Act.RESTORED, operator, count=0, tenant=tenant)
    return count


def cancel(client: redis.Redis, keys: Keys, producer: Producer, identity: str, operator: Operator) -> Cancellation:
    """Cancel a sale that waits and cannot have reached Trackdesk."""
    money = _money(client, keys, identity)
    tenant, external_id = tenant_of(identity), external_id_of(identity)
    result = producer.cancel(external_id, tenant=tenant, conversion_type=type_of(identity))
    if result.status is CancelStatus.CANCELLED:
        jobs = [{"tenant": tenant, "external_id": external_id}]
        record(client, keys, Act.CANCEL, operator, count=1, money=money, jobs=jobs)
    return result


def _check_known(client: redis.Redis, keys: Keys, tenant: str) -> None:
    if not client.sismember(keys.tenants, tenant):
        raise TenantUnknown(f"tenant {tenant} never had a sale in this store; check its name")


def _money(client: redis.Redis, keys: Keys, identity: str) -> Money:
    raw: Any = client.get(keys.job(identity))
    try:
        found = JobRecord.parse(identity, raw or b"")
    except ValueError:  # gone or damaged: the cancellation itself says so
        return {}
    return {} if found.amount is None or found.currency is None else {found.currency: found.amount}
