"""Two operators redrive overlapping dead letters while workers and the store are killed: each job goes once."""

import os
import random
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.reads import read_audit_log
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import Deployment, deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops import plans
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit_log import Act, Operator
from trackdesk_worker.store.dead_letters.query import Search

pytestmark = [pytest.mark.chaos, pytest.mark.system]

DEAD = int(os.environ.get("TRACKDESK_TEST_DEAD", "800"))
"""`make test-full` has 50,000 of them."""
SETTINGS = {"TRACKDESK_TIMEOUT_S": "2", "TRACKDESK_LEASE_S": "5", "TRACKDESK_CONCURRENCY": "50"}
SLOWED = f"""
from trackdesk_worker.maintenance.plans import DrivePlans
from trackdesk_worker.store import plans
plans.DECIDED_AT_ONCE = {max(25, DEAD // 12)}
DrivePlans.share_s = 0.01
"""
"""So that a plan has a middle to die in."""
ENTRY = '{"kind":"attempt","at_ms":1,"attempt":1,"status":400,"reason":"type_not_found"}'
BOUNDARY = Decimal(300)


@pytest.fixture
def always_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "store", config={"appendfsync": "always"})
    server.start()
    yield server
    server.stop()


def test_overlapping_plans_redrive_each_job_once_through_sigkill_of_worker_and_store(
    always_server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    amounts = {f"order-{number}": Decimal(random.Random(number).randrange(100, 50_000)) / 100 for number in range(DEAD)}
    first_meant = {name for name in amounts if int(name[6:]) % 10 < 8}
    second_meant = {name for name, amount in amounts.items() if amount >= BOUNDARY}
    with (
        simulator_process() as trackdesk,
        deployment(always_server, keys, tmp_path, trackdesk.base_url) as run,
    ):
        bury(run, amounts, first_meant)
        by_reason, by_amount = Search(reason="type_not_found"), Search(min_amount=BOUNDARY)
        victim = run.start_worker(SETTINGS, planted=SLOWED)
        made = [
            plans.create(run.store, wanted, act=Act.REDRIVE, name="INC-7", operator=Operator(name, "fixed"))
            for name, wanted in (("ann", by_reason), ("ben", by_amount))
        ]
        for plan, operator in zip(made, ("ann", "ben"), strict=True):
            listed = plans.finish_listing(run.store, plan.id)
            plans.start(run.store, plan.id, Operator(operator, "fixed"))
            assert listed.listed == len(first_meant if operator == "ann" else second_meant)
        began = time.monotonic()

        def decided() -> int:
            return sum(plans.read(run.store, plan.id).decided for plan in made)

        wait_until(lambda: decided() > DEAD // 8, "plans under way", poll_s=0.005)
        victim.send_signal(signal.SIGKILL)
        victim.wait(10)
        at_first_death = decided()
        run.start_worker(SETTINGS, planted=SLOWED)
        wait_until(lambda: decided() > at_first_death + DEAD // 8, "plans go on with another worker", poll_s=0.005)
        always_server.kill()
        always_server.start()
        at_second_death = decided()
        wait_until(lambda: all(plans.read(run.store, plan.id).ended for plan in made), "plans end", within_s=120)
        book = run.wait_until_finished(within_s=240)
        print(
            f"{DEAD} dead letters: verdicts {at_first_death} at the worker's death, {at_second_death} at the store's; "
            f"all delivered after {time.monotonic() - began:.1f} s"
        )

        ended = [plans.read(run.store, plan.id) for plan in made]
        assert [sum(plan.verdicts.values()) for plan in ended] == [len(first_meant), len(second_meant)]
        assert 0 < at_first_death < at_second_death < len(first_meant) + len(second_meant), "both died in the middle"
        redriven = first_meant | second_meant
        assert sum(plan.done for plan in ended) == len(redriven) == book.jobs["redriven"]
        assert book.jobs[State.DELIVERED] == len(redriven)
        assert book.jobs[State.DEAD] == DEAD - len(redriven)
        assert sum((plan.money_done["EUR"] for plan in ended), Decimal()) == sum(amounts[name] for name in redriven)
        once = trackdesk.exactly_once(sorted(redriven), tenant="acme")
        assert once.ok, once
        report = audit(run.store)
        assert report.discrepancies == ()
        assert report.orphaned_entries == 0
        phases = [(entry["operation"], entry["phase"]) for entry in read_audit_log(run.store)]
        assert sorted(phases) == sorted((p.id, phase) for p in ended for phase in ("created", "started", "finished"))


def bury(run: Deployment, amounts: dict[str, Decimal], type_not_found: set[str]) -> None:
    """Make dead letters, as a worker would after Trackdesk's answer."""
    store = run.store
    run.producer.enqueue_many(sale(name, amount={"value": f"{amount:.2f}"}) for name, amount in amounts.items())
    limits = Limits(rate_per_s=0, cap=1_000_000)
    run.client.hset(run.keys.tenant("acme"), "window", 1_000_000)
    while claims := store.run(store.jobs.claim(500, lease_ms=60_000, limits=limits)).jobs:
        settlements = [
            Settlement(
                job.id, job.token, Verb.BURY,
                "type_not_found" if job.id.partition("/")[2] in type_not_found else "source_not_found", entry=ENTRY,
            )
            for job in claims
        ]  # fmt: skip
        assert all(store.run(store.jobs.settle(settlements, dedupe_window_ms=3_600_000)))
