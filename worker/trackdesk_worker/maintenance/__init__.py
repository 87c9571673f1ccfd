"""What every worker does about twice a second: a file per duty, and the loop that guards each of them.

No leader: the scripts make any number of concurrent loops harmless. The duties have a thread and a Redis client of
their own, so that neither Celery's reconnecting nor a busy delivery loop can hold them up.
"""

from collections.abc import Callable

import structlog

from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.maintenance.admission import Admission
from trackdesk_worker.maintenance.duty import DutyContext
from trackdesk_worker.maintenance.heartbeat import Heartbeat
from trackdesk_worker.maintenance.loop import Maintenance
from trackdesk_worker.maintenance.plans import DrivePlans, PrunePlans, RecordActs
from trackdesk_worker.maintenance.promote import Promote
from trackdesk_worker.maintenance.prune import Prune
from trackdesk_worker.maintenance.reclaim import Reclaim
from trackdesk_worker.maintenance.refresh_tenants import RefreshTenants
from trackdesk_worker.maintenance.unpark import Unpark
from trackdesk_worker.maintenance.wake import Wake
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.telemetry.metrics import WorkerMetrics


def all_duties(
    store: JobStore,
    *,
    tenants: Tenants,
    worker_id: str,
    lease_ms: int,
    metrics: WorkerMetrics,
    log: structlog.typing.FilteringBoundLogger,
    wake: Callable[[], None] = lambda: None,
    beat: Callable[[], None] = lambda: None,
) -> Maintenance:
    """Return every duty of a worker, in the order in which a round runs them."""
    context = DutyContext(store, metrics, log)
    heartbeat = Heartbeat(context, worker_id)
    duties = (
        RefreshTenants(context, tenants),
        heartbeat,
        Promote(context),
        Reclaim(context, tenants, lease_ms),
        Unpark(context),
        DrivePlans(context, tenants.default.limits.rate_us),
        RecordActs(context),
        Wake(context, wake),
        Prune(context),
        PrunePlans(context),
        Admission(context),
    )
    return Maintenance(duties, sign_off=heartbeat.sign_off, metrics=metrics, log=log, beat=beat)
