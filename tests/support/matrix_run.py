"""One run of the crash matrix: real processes, one of them is killed at a named point, the store has a fault, and then
an audit follows.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from redis.exceptions import RedisError

from tests.support.crash_points import Role
from tests.support.faked_clock import libfaketime
from tests.support.matrix_plan import LOSES_A_SECOND, TRACKDESK, Plan, SideFault, StoreFault
from tests.support.matrix_store import FaultyStore, faulty_store
from tests.support.planted import VARIABLE as PLANT_VARIABLE
from tests.support.reads import group_sizes
from tests.support.simulator import SimulatorProcess, sale
from tests.support.store_check import walk_store
from tests.support.workers import Deployment, deployment, wait_until
from trackdesk_producer import Producer, ReceiptStatus, State
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, job_id
from trackdesk_worker.local.embedded import valkey_binary
from trackdesk_worker.ops.audit import audit

RESUMES_WITHIN_S = 15.0
FINISHES_WITHIN_S = 150.0
FORGOTTEN_S = 2.0
"""The stated loss of AOF everysec under a power cut."""
LATENCY_S = 0.05
VARIABLES = {
    "TRACKDESK_TIMEOUT_S": "1",
    "TRACKDESK_LEASE_S": "3",
    "TRACKDESK_RATE_LIMIT": "50",
    "TRACKDESK_BURST": "5",
    "TRACKDESK_CONCURRENCY": "16",
    "TRACKDESK_BACKOFF_BASE_S": "0.1",
    "TRACKDESK_BACKOFF_CAP_S": "0.5",
    "TRACKDESK_BREAKER_FAILURES": "50",
    "USER": "matrix",
}
WORKER = ("-m", "trackdesk_worker", "worker")
WAKEUPS_AT_MOST = 12
"""Those the scripts let wait, and those that Celery put back when a connection or a process of its ended."""
ACTS = (Role.REDRIVE, Role.DISCARD)
BLOCKED = "source_blocked"
PIXEL = ["pixel-900", "pixel-901"]
"""Sales that Trackdesk already has from another system, over another amount: they must become dead letters."""

POISON = "order-900"
"""A sale that Trackdesk answers with 403 whenever it comes, as a firewall rule on its content does."""
FORBIDDEN = {"code": 7, "message": "blocked by rule 949110"}
"""What an inactive offer is answered with in these runs: code 7 is HTTP's 403."""
GOOD_TABLES = "[other-shop]\nrate_limit = 5\n"
BAD_TABLES = '[other-shop]\nbase_url = "https://xn--a.trackdesk.com"\n'


@dataclass
class Verdict:
    """What a run found."""

    plan: Plan
    problems: list[str] = field(default_factory=list)
    crashed: bool = False
    """Whether the process reached its crash point."""
    kills: int = 0
    jobs: int = 0
    resumed_s: float | None = None
    """Time from the store's return to the next delivery, where work was waiting."""
    unverified: int = 0
    """Deliveries that a power cut made the store forget, and that became dead letters."""
    forgotten: int = 0
    """Sales accepted within the stated loss before a power cut, and lost with it."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


class Run:
    """One plan, carried out."""

    def __init__(
        self,
        plan: Plan,
        trackdesk: SimulatorProcess,
        store: FaultyStore,
        deployed: Deployment,
        *,
        plant: str = "",
        producer: type[Producer] = Producer,
        finishes_within_s: float = FINISHES_WITHIN_S,
    ) -> None:
        self._plan = plan
        self._trackdesk = trackdesk
        self._store = store
        self._run = deployed
        self._tenant = deployed.environment["TRACKDESK_TENANT"]
        self._plant = plant
        self._finishes_within_s = finishes_within_s
        self._producer = producer(store.server.url, tenant=self._tenant, namespace=deployed.keys.namespace)
        self._accepted: dict[str, float] = {}
        self.verdict = Verdict(plan)
        ids = [f"order-{number}" for number in range(plan.jobs)]
        first, last = int(plan.jobs * 0.5), int(plan.jobs * 0.8)
        self._first, self._meanwhile, self._late = PIXEL + ids[:first], ids[first:last], ids[last:]
        if plan.side_fault is SideFault.POISON:
            self._first = [POISON, *self._first]
        self._variables = {**VARIABLES, "TRACKDESK_CONFIG": str(deployed.logs / "tenants.toml")}
        self._tables = deployed.logs / "tenants.toml"
        self._tables.write_text(GOOD_TABLES, "utf-8")
        self._blocked = ids[: plan.dead]

    def carry_out(self) -> Verdict:
        """Run all steps; the verdict has every problem."""
        started = time.monotonic()
        for step in (self._act, self._stop_all, self._judge):
            try:
                step()
            except (AssertionError, RedisError, OSError) as error:
                self.verdict.problems.append(f"{type(error).__name__}: {error}")
        self._producer.close()
        self.verdict.kills += self._store.kills
        self.verdict.jobs = len(self._accepted)
        self.verdict.seconds = time.monotonic() - started
        return self.verdict

    def _act(self) -> None:
        plan, role = self._plan, self._plan.point.role
        self._accept(self._first if role is not Role.IMPORT else [])
        survivor = None
        if plan.dead:
            survivor = self._start_survivor()
            wait_until(lambda: self._still_dead() == plan.dead, "the blocked clicks are dead letters")
            if role is Role.REDRIVE:
                self._configure(clicks={"inactive-*": "inactive", "blocked-*": "known"})
        if plan.point.name.startswith("reclaim"):
            self._lose_claims()
        victim = self._start_victim()
        if plan.crash_first:
            self._await_death(victim)
        elif role is Role.STOP:
            wait_until(self._run.worker_seen, "the victim registers")
        survivor = survivor or self._start_survivor()
        if not plan.crash_first:
            self._await_progress(victim, int(plan.after_share * len(self._first)))
        if role is Role.STOP:
            victim.send_signal(signal.SIGTERM)
        if plan.side_fault is SideFault.TENANTS:
            self._tables.write_text(BAD_TABLES, "utf-8")
        with ThreadPoolExecutor(1) as shop:
            selling = shop.submit(self._accept, self._meanwhile, at_a_time=3, pause_s=0.02)
            self._store.run_fault()
            returned = time.monotonic()
            finished = self._finished()
            selling.result()
        self._accept(self._late)
        if plan.store_fault is not StoreFault.NONE and self._unfinished():
            wait_until(
                lambda: self._finished() > finished,
                "deliveries go on after the store's return",
                within_s=RESUMES_WITHIN_S - (time.monotonic() - returned),
            )
            self.verdict.resumed_s = time.monotonic() - returned
        if not self.verdict.crashed:
            self._await_death(victim)
        self._repeat_what_died()
        self._wait_until_finished()
        if survivor.poll() is not None:
            self.verdict.problems.append(f"the surviving worker ended by itself with {survivor.returncode}")

    def _unfinished(self) -> int:
        """Jobs that are still to be sent; a poison sale may wait much longer than a run takes."""
        poison = self._plan.side_fault is SideFault.POISON and self._poison() not in (State.DEAD, None)
        return self._run.unfinished() - int(poison)

    def _poison(self) -> State | None:
        status = self._producer.get(POISON)
        return None if status is None else status.state

    def _wait_until_finished(self) -> None:
        wait_until(lambda: self._unfinished() == 0, "all jobs finished", within_s=self._finishes_within_s, poll_s=0.05)

    def _start_survivor(self) -> subprocess.Popen[bytes]:
        """Start the worker that must survive everything, and wait until it has registered."""
        survivor = self._start_surviving_process()
        name = f":{survivor.pid}".encode()
        workers = self._run.keys.workers
        wait_until(
            lambda: any(worker.endswith(name) for worker in self._run.client.zrange(workers, 0, -1)),
            "the surviving worker registers",
            within_s=60,
        )
        return survivor

    def _start_surviving_process(self) -> subprocess.Popen[bytes]:
        match self._plan.side_fault:
            case SideFault.LOG_FULL:
                with Path("/dev/full").open("wb") as full:
                    return self._run.start(WORKER, self._variables, output=full)
            case SideFault.LOG_CLOSED:
                reader, writer = os.pipe()
                with os.fdopen(writer, "wb") as pipe:
                    survivor = self._run.start(WORKER, self._variables, output=pipe)
                os.close(reader)
                return survivor
            case _:
                return self._run.start(WORKER, self._variables)

    def _start_armed(self, point: str, passage: int, *arguments: str) -> subprocess.Popen[bytes]:
        return self._run.start(
            ["-m", "tests.support.launcher", point, str(passage), *arguments],
            {**self._variables, PLANT_VARIABLE: self._plant},
        )

    def _start_victim(self) -> subprocess.Popen[bytes]:
        plan = self._plan
        match plan.point.role:
            case Role.WORKER | Role.STOP:
                command: tuple[str, ...] = ("worker",)
            case Role.IMPORT:
                command = self._import_command()
            case Role.REDRIVE | Role.DISCARD:
                command = self._act_command()
        return self._start_armed(plan.point.name, plan.passage, *command)

    def _import_command(self) -> tuple[str, ...]:
        file = self._run.logs / "sales.jsonl"
        file.write_text("".join(json.dumps(self._sale(i)) + "\n" for i in self._first), "utf-8")
        return ("import", str(file), "--patience", "20")

    def _act_command(self) -> tuple[str, ...]:
        act = (self._plan.point.role.value, "--all", "--cause", BLOCKED, "--reason", "the click was looked at")
        count = ("--count", str(self._still_dead())) if self._plan.point.role is Role.DISCARD else ()
        return (*act, "--yes", *count)

    def _still_dead(self) -> int:
        return group_sizes(self._run.store)[self._tenant, BLOCKED]

    def _lose_claims(self) -> None:
        """Let a worker die with claims, so that there is something to reclaim."""
        lost = self._start_armed("request.sent", 3, "worker")
        wait_until(lambda: lost.poll() is not None, "a worker died with claims", within_s=45)
        self.verdict.kills += 1

    def _await_death(self, victim: subprocess.Popen[bytes]) -> None:
        """Wait until the victim died at its point, or ended, or has nothing left to do."""

        def settled() -> bool:
            return victim.poll() is not None or (
                self._plan.point.role is Role.WORKER and self._all_finished() and not self._more_passages()
            )

        wait_until(settled, "the victim reaches its crash point", within_s=60, poll_s=0.05)
        if victim.poll() == -signal.SIGKILL:
            self.verdict.crashed = True
            self.verdict.kills += 1

    def _more_passages(self) -> bool:
        """Whether the point is passed also without work."""
        return self._plan.point.name.split(".")[0] in ("maintenance", "wake", "prune") or (
            self._plan.point.name in ("promote.before", "reclaim.before")
        )

    def _all_finished(self) -> bool:
        try:
            return self._run.unfinished() == 0
        except RedisError:
            return False

    def _await_progress(self, victim: subprocess.Popen[bytes], wanted: int) -> None:
        wait_until(
            lambda: self._finished() >= wanted or victim.poll() is not None or not self._run.unfinished(),
            "deliveries under way",
            within_s=30,
        )

    def _finished(self) -> int:
        jobs = self._run.book().jobs
        return jobs[State.DELIVERED] + jobs[State.DEAD] + jobs[State.DISCARDED]

    def _sale(self, external_id: str) -> dict[str, object]:
        number = int(external_id.rpartition("-")[2])
        cid = f"blocked-{number}" if external_id in self._blocked else f"click-{number}"
        if external_id == POISON:
            cid = "inactive-poison"
        return sale(external_id, cid=cid, amount={"value": f"{number + 1}.25"})

    def _accept(self, ids: Iterable[str], *, at_a_time: int = 500, pause_s: float = 0.05) -> None:
        """Enqueue, as a shop does: again until each sale has its receipt."""
        waiting = list(ids)
        deadline = time.monotonic() + 30
        while waiting:
            assert time.monotonic() < deadline, f"{len(waiting)} sales are not accepted within 30 s"
            batch = waiting[:at_a_time]
            receipts = self._producer.enqueue_many([self._sale(i) for i in batch])
            now = time.monotonic()
            for external_id, receipt in zip(batch, receipts, strict=True):
                if receipt.ok:
                    self._accepted.setdefault(external_id, now)
                    waiting.remove(external_id)
                elif receipt.status is ReceiptStatus.CONFLICT:
                    raise AssertionError(f"{external_id} is in conflict with itself")
            if waiting:
                time.sleep(pause_s)

    def _repeat_what_died(self) -> None:
        """An operator, or a script, repeats the command that was killed; that is safe, and is how it is finished."""
        role = self._plan.point.role
        self._tables.write_text(GOOD_TABLES, "utf-8")  # a command that starts now refuses a bad file
        if role is Role.IMPORT:
            self._repeat(self._import_command())
            self._accepted |= dict.fromkeys(self._first, time.monotonic())
        elif role in ACTS:
            for _ in range(5):
                # A power cut may have undone burials: those sales become dead letters again first, to be counted.
                self._wait_until_finished()
                if not self._still_dead():
                    return
                self._repeat(self._act_command())
            raise AssertionError("dead letters stay after five tries")

    def _repeat(self, command: tuple[str, ...]) -> None:
        again = self._run.start(["-m", "trackdesk_worker", *command], self._variables)
        wait_until(lambda: again.poll() is not None, f"{command[0]} repeated ends", within_s=40)
        assert again.returncode == 0, f"{command[0]} repeated ends with {again.returncode}"

    def _stop_all(self) -> None:
        running = [process for process in self._run.workers if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                self.verdict.problems.append("a worker still runs 20 s after SIGTERM")
                continue
            if code not in (0, -signal.SIGKILL):
                self.verdict.problems.append(f"a worker ended after SIGTERM with {code}")
            elif code:
                self.verdict.crashed = True
                self.verdict.kills += 1

    def _configure(self, **own: object) -> None:
        settings = {
            "faults": TRACKDESK[self._plan.trackdesk],
            "latency_s": LATENCY_S,
            "problems": {"offer_not_active": FORBIDDEN},
            **own,
        }
        self._trackdesk.configure({"tenants": {self._tenant: settings}})

    def prepare(self) -> None:
        """Let another system sell its part, and give the run's tenant its faults at Trackdesk."""
        for external_id in PIXEL:
            self._trackdesk.post(self._tenant, sale(external_id, amount={"value": "9999.00"}))
        self._configure()

    def _judge(self) -> None:
        wrong = self.verdict.problems
        wrong += walk_store(self._run.store, wakeups_at_most=WAKEUPS_AT_MOST).wrong
        report = audit(self._run.store)
        wrong += [f"audit: {finding}" for finding in report.discrepancies]
        if report.orphaned_entries:
            wrong.append(f"{report.orphaned_entries} orphaned_entries")
        if "\nTraceback" in self._run.log_text():
            wrong.append("a process wrote a traceback")
        paid = self._trackdesk.ids(tenant=self._tenant)
        doubled = sorted({i for i in paid if paid.count(i) > 1})
        if doubled:
            wrong.append(f"paid twice: {doubled}")
        for external_id, at in self._accepted.items():
            self._judge_one(external_id, at, external_id in paid)

    def _judge_one(self, external_id: str, accepted_at: float, paid: bool) -> None:
        verdict, identity = self.verdict, job_id(self._tenant, external_id)
        raw = self._run.client.get(self._run.keys.job(identity))
        if raw is None:
            cut_at = self._store.cut_at
            if cut_at is not None and accepted_at > cut_at - (FORGOTTEN_S - 1.0):
                verdict.forgotten += 1
            else:
                verdict.problems.append(f"{external_id} was accepted and is lost")
            return
        record = JobRecord.parse(identity, raw)
        said = (record.state, record.reason)
        if external_id == POISON:
            if paid or (record.state not in (State.READY, State.SCHEDULED) and said != (State.DEAD, "refused_alone")):
                verdict.problems.append(f"the poison sale is {said}, paid: {paid}")
            return
        discarded = self._plan.point.role is Role.DISCARD and external_id in self._blocked
        if record.reason == "confirmed_duplicate" and record.attempts_total < 2:
            verdict.problems.append(f"{external_id} was called delivered on a clean first attempt's duplicate")
            return
        if external_id in PIXEL and record.state is State.DEAD:
            if record.reason != "unverified_duplicate":
                verdict.problems.append(f"{external_id}, another system's sale, is {said}")
            return
        if discarded:
            if record.state is not State.DISCARDED or paid:
                verdict.problems.append(f"{external_id} was to be discarded and is {said}, paid: {paid}")
        elif not paid:
            verdict.problems.append(f"{external_id} is {said} and was never paid")
        elif said == (State.DEAD, "unverified_duplicate") and self._plan.store_fault is LOSES_A_SECOND:
            verdict.unverified += 1
        elif record.state is not State.DELIVERED:
            verdict.problems.append(f"{external_id} was paid and is {said}")


def server_for(kind: str) -> Path | None:
    """Return the server's binary, or None if this machine has none."""
    if kind == "valkey":
        return valkey_binary()
    found = shutil.which("redis-server")
    return None if found is None else Path(found)


def carry_out(
    plan: Plan,
    trackdesk: SimulatorProcess,
    directory: Path,
    *,
    plant: str = "",
    producer: type[Producer] = Producer,
    finishes_within_s: float = FINISHES_WITHIN_S,
) -> Verdict:
    """Carry out one plan in a directory of its own, which keeps the logs.

    `plant` is a bug of the process that dies, `producer` what the shop sells through (`tests/support/planted.py`).
    """
    directory.mkdir(parents=True)
    binary = server_for(plan.kind)
    if binary is None:
        plan, binary = replace(plan, kind="valkey"), valkey_binary()
    if plan.store_fault is StoreFault.CLOCK and libfaketime() is None:
        plan = replace(plan, store_fault=StoreFault.NONE)
    tenant = f"run-{plan.seed}"
    with (
        faulty_store(plan, directory, binary) as store,
        deployment(
            store.server, Keys(f"matrix-{plan.seed}"), directory, trackdesk.base_url, tenant=tenant, url=store.url
        ) as deployed,
    ):
        run = Run(plan, trackdesk, store, deployed, plant=plant, producer=producer, finishes_within_s=finishes_within_s)
        run.prepare()
        return run.carry_out()
