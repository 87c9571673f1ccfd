"""What every worker does about once a second: promote what is due, reclaim what a dead process held, ring, prune.

No leader: the scripts make any number of concurrent loops harmless. It has a thread and a Redis client of its own, so
that neither Celery's reconnecting nor a busy delivery loop can hold it up.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
import structlog
from redis.exceptions import RedisError

from trackdesk_producer.contract.runner import run
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.settings import SettingsInvalid
from trackdesk_worker.store.causes import adopt
from trackdesk_worker.store.jobs import Jobs
from trackdesk_worker.store.plans import drive, prune
from trackdesk_worker.telemetry.health import Health
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.tenants import Tenants

PERIOD_S = 0.5
BATCH = 500
FULL_SHARE = 0.9
"""Share of maxmemory above which enqueue is closed: the rest is for finishing what was accepted."""
ADMISSION_EVERY_S = 2.0
ADMISSION_TTL_S = 30
"""If all workers die while it is closed, enqueue opens again and Redis' own limit decides."""
WORKER_FORGOTTEN_S = 86_400


@dataclass(frozen=True, slots=True)
class Tidied:
    """What one run did."""

    promoted: int
    reclaimed: int
    buried: int
    pruned: int
    aside: int
    """Jobs that wait for a newer release."""
    planned: int
    """Jobs that operators' plans listed or decided."""
    work_waits: bool


class Maintenance:
    """The duties, apart from their loop. `run_once` may be called by anything that holds a client."""

    def __init__(
        self,
        client: redis.Redis,
        jobs: Jobs,
        *,
        tenants: Tenants,
        worker_id: str,
        max_attempts: int,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._jobs = jobs
        self._tenants = tenants
        self._worker_id = worker_id
        self._max_attempts = max_attempts
        self._admission_checked = 0.0
        self._beat = beat
        self._limits_applied = False

    def run_once(self) -> Tidied:
        """Do every duty once; each in batches, so that no script holds Redis for long."""
        run(self._client, self._jobs.alive(self._worker_id))
        promoted = self._all(lambda: run(self._client, self._jobs.promote(BATCH)))
        reclaimed = buried = 0
        while True:
            self._beat()
            taken = run(self._client, self._jobs.reclaim(BATCH, max_attempts=self._max_attempts))
            reclaimed, buried = reclaimed + taken.ready, buried + taken.buried
            if taken.ready + taken.buried < BATCH:
                break
        aside = run(self._client, self._jobs.take_back(BATCH)).aside
        planned = drive(self._client, self._jobs.keys, rate_us=self._tenants.default.limits.rate_us, beat=self._beat)
        work_waits = run(self._client, self._jobs.ring())
        pruned = run(self._client, self._jobs.prune(BATCH))
        self._check_admission()
        return Tidied(promoted, reclaimed, buried, pruned, aside, planned, work_waits)

    def refresh_tenants(self) -> bool:
        """Bring changed settings of tenants into force; return whether there were any.

        Raises:
            SettingsInvalid: when the file became wrong; the settings before stay in force.
        """
        changed = self._tenants.refresh()
        if changed:
            self._limits_applied = False  # and stays so until they are in a store that may be away just now
        if not self._limits_applied:
            own = {name: settings.limits for name, settings in self._tenants.own.items()}
            known = {text(name) for name in self._client.smembers(self._jobs.keys.tenants)}
            tenants = sorted(known | own.keys())
            for start in range(0, len(tenants), BATCH):
                run(self._client, self._jobs.limits(tenants[start : start + BATCH], own))
            self._limits_applied = True
        return changed

    def sign_off(self) -> None:
        """Leave the list of workers."""
        self._client.zrem(self._jobs.keys.workers, self._worker_id)

    def _all(self, once: Callable[[], int]) -> int:
        done = 0
        while True:
            self._beat()
            moved = once()
            done += moved
            if moved < BATCH:
                return done

    def _check_admission(self) -> None:
        now = time.monotonic()
        if now - self._admission_checked < ADMISSION_EVERY_S:
            return
        self._admission_checked = now
        run(self._client, prune(self._jobs.keys))
        while adopt(self._client, self._jobs.keys):  # what workers of a version before this bury during an upgrade
            self._beat()
        memory = self._client.info("memory")
        most = int(memory.get("maxmemory", 0))
        full = most and int(memory["used_memory"]) > most * FULL_SHARE
        run(self._client, self._jobs.admission(closed_for_s=ADMISSION_TTL_S if full else 0))
        forgotten = time.time_ns() // 1_000_000 - WORKER_FORGOTTEN_S * 1000
        self._client.zremrangebyscore(self._jobs.keys.workers, "-inf", forgotten)


class MaintenanceLoop:
    """The thread that runs the duties until `stop`."""

    def __init__(
        self,
        maintenance: Maintenance,
        *,
        wake: Callable[[], None],
        metrics: WorkerMetrics,
        health: Health,
        log: structlog.typing.FilteringBoundLogger,
        period_s: float = PERIOD_S,
    ) -> None:
        self._maintenance = maintenance
        self._wake = wake
        self._metrics = metrics
        self._health = health
        self._log = log
        self._period_s = period_s
        self._aside = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop after the run under way, and wait for it."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._health.beat("maintenance")
            self._metrics.heartbeat()
            try:
                self._refresh()
                self._tell(self._maintenance.run_once())
            except (RedisError, OSError) as error:
                self._metrics.store_error()
                self._log.warning("store.unavailable", part="maintenance", error=type(error).__name__)
                self._health.excuse("consumer")  # nobody can listen to a store that is away
            self._stop.wait(self._period_s)
        self._health.rest("maintenance")
        try:
            self._maintenance.sign_off()
        except (RedisError, OSError):
            self._log.info("maintenance.sign_off_failed")  # the entry ages out by itself

    def _refresh(self) -> None:
        try:
            if self._maintenance.refresh_tenants():
                self._log.info("tenants.reloaded")
        except SettingsInvalid as error:
            self._log.error("tenants.refused", detail=str(error))

    def _tell(self, tidied: Tidied) -> None:
        for duty in ("promoted", "reclaimed", "buried", "pruned"):
            moved: int = getattr(tidied, duty)
            if moved:
                self._metrics.maintenance(duty, moved)
        if tidied.reclaimed or tidied.buried:
            self._log.warning("maintenance.reclaimed", ready=tidied.reclaimed, buried=tidied.buried)
        if tidied.aside != self._aside:
            self._aside = tidied.aside
            # These jobs are safe as they are: a newer release of ours wrote their records, and only it may go on.
            self._log.warning("maintenance.newer_records", jobs=tidied.aside)
        if tidied.planned:
            self._log.info("maintenance.plans", jobs=tidied.planned)
        if tidied.work_waits:
            # Besides the wake-up in Celery's queue, straight to our own loop: after an outage of Redis, Celery
            # may take many seconds to listen again.
            self._wake()
