"""Finds the job of an externalId."""

from trackdesk_producer.contract.record import job_id, tenant_of
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.store.job_store import JobStore


class SaleUnknown(OpsError):
    """The externalId has no job, or more than one; the message says what to add."""


def find_job(store: JobStore, external_id: str, *, tenant: str | None, conversion_type: str | None) -> str:
    """Return the id of the job of a sale; without a tenant, all tenants are searched.

    Raises:
        SaleUnknown: if there is none, or several tenants have one.
    """
    tenants = [tenant] if tenant is not None else store.tenants()
    candidates = [job_id(name, external_id) for name in tenants]
    if conversion_type is not None:
        candidates += [job_id(name, external_id, conversion_type) for name in tenants]
    with store.client.pipeline(transaction=False) as pipeline:
        for candidate in candidates:
            pipeline.exists(store.keys.job(candidate))
        found = [c for c, there in zip(candidates, pipeline.execute(), strict=True) if there]
    if len(found) == 1:
        return found[0]
    if not found:
        where = f"tenant {tenant}" if tenant is not None else "any tenant"
        raise SaleUnknown(
            f"no sale {external_id!r} of {where} is known: it was never accepted, or its dedupe window is over"
        )
    names = sorted({tenant_of(identity) for identity in found})
    if len(names) > 1:
        raise SaleUnknown(
            f"{len(names)} tenants have a sale {external_id!r}: pass --tenant with one of {', '.join(names)}"
        )
    raise SaleUnknown(
        f"tenant {names[0]} has {external_id!r} with and without a type as its identity: leave --type out"
    )
