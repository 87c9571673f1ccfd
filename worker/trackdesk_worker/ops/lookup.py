"""From what an operator types, an externalId, to the job."""

import redis

from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import job_id, tenant_of
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.errors import OpsError


class SaleUnknown(OpsError):
    """No job, or more than one, is meant; the message says what to add."""


def tenants_of(client: redis.Redis, keys: Keys) -> list[str]:
    """Return every tenant that ever had a job."""
    return sorted(text(name) for name in client.smembers(keys.tenants))


def find_job(
    client: redis.Redis, keys: Keys, external_id: str, *, tenant: str | None, conversion_type: str | None
) -> str:
    """Return the id of the job of a sale, of whichever tenant has it if none is named.

    Raises:
        SaleUnknown: if there is none, or several tenants have one.
    """
    tenants = [tenant] if tenant is not None else tenants_of(client, keys)
    candidates = [job_id(name, external_id) for name in tenants]
    if conversion_type is not None:
        candidates += [job_id(name, external_id, conversion_type) for name in tenants]
    with client.pipeline(transaction=False) as pipeline:
        for candidate in candidates:
            pipeline.exists(keys.job(candidate))
        found = [c for c, there in zip(candidates, pipeline.execute(), strict=True) if there]
    if len(found) == 1:
        return found[0]
    if not found:
        where = f"tenant {tenant}" if tenant is not None else "any tenant"
        raise SaleUnknown(f"no sale {external_id!r} of {where} is known; it never came, or its dedupe window is over")
    names = sorted({tenant_of(identity) for identity in found})
    if len(names) > 1:
        raise SaleUnknown(
            f"{len(names)} tenants have a sale {external_id!r}: pass --tenant with one of {', '.join(names)}"
        )
    raise SaleUnknown(
        f"tenant {names[0]} has {external_id!r} with and without a type as its identity: leave --type out"
    )
