"""The dead-letter desk on a full store: every search, causes and previews, and what a dead letter costs the server."""

import random
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import redis

from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.rig import STILL_REWRITE, Rig
from tests.benchmarks.measure.sales import BATCH, LEASE_MS, NO_LIMIT, WINDOW_MS, order, sale, tenants
from trackdesk_producer import parse_conversion
from trackdesk_producer.contract.record import State, job_id
from trackdesk_producer.contract.scripts import Argument, ScriptCall, load_script
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_producer.conversion.wire import fingerprint, post_body
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.ops.dead_letters.by_cause import dead_by_cause, summary
from trackdesk_worker.ops.dead_letters.search import search
from trackdesk_worker.store import plans
from trackdesk_worker.store.dead_letters.query import Search
from trackdesk_worker.store.job_store import JobStore

SHOPS = 20
REASONS = {
    "type_not_found": 400, "source_not_found": 404, "server_error": 503, "timeout": None, "type_not_configured": 400,
}  # fmt: skip
TYPES = ("sale", "lead", "signup")
KINDS = 30_000
SAMPLE = 2_000
TIMES = 15


def measure(rig: Rig, runs: int) -> Runs:
    """Fill a store: half of its jobs dead, the others ready. Then ask everything an operator may ask."""
    jobs = rig.scale.of(1_000_000, 6_000)
    with rig.alone(STILL_REWRITE) as deployment:
        store = deployment.job_store
        filling = _Filling(store)
        sample = rig.scale.of(SAMPLE, 200)
        bury_first = filling.bury(sample)
        rig.notify(f"filling a server with {jobs:,} jobs, half of them dead")
        filling.bury(jobs // 2 - 2 * sample)
        bury_full = filling.bury(sample)
        filling.enqueue(jobs // 2)
        asked = _questions(store)

        def once(_: int) -> Mapping[str, float]:
            taken = {name: _taken_ms(question) for name, question in asked.items()}
            return {
                **{name: median for name, (median, _slowest) in taken.items()},
                "slowest of all": max(slowest for _, slowest in taken.values()),
                "bury, first dead letters": bury_first,
                "bury, full": bury_full,
                "bury, full to first": bury_full / bury_first,
                "redrive, full": filling.redrive(sample // 2),
            }

        measured = collect(runs, once)
        deployment.check()
    return measured


def _questions(store: JobStore) -> dict[str, Callable[[], object]]:
    dead = State.DEAD
    middle = store.client.zcard(store.keys.dead) // 2
    found: Any = store.client.zrange(store.keys.dead, middle, middle, withscores=True)
    middle_ms = int(found[0][1])
    searches: dict[str, dict[str, Any]] = {
        "no filter": {},
        "tenant": {"tenant": tenants(SHOPS)[3]},
        "reason": {"reason": "server_error"},
        "type": {"conversion_type": "lead"},
        "status": {"http_status": 404},
        "amount": {"min_amount": Decimal("900.00"), "order": "largest"},
        "rare amount": {"min_amount": Decimal("999.99")},
        "time": {"since_ms": middle_ms, "order": "oldest"},
        "time, by amount": {"since_ms": middle_ms, "order": "largest"},
        "customer": {"customer_id": "customer-17"},
        "click": {"cid": "click-17"},
        "externalId": {"external_id": order(17), "state": None},
        "all filters": {
            "tenant": tenants(SHOPS)[3], "reason": "timeout", "conversion_type": "sale", "currency": "EUR",
            "min_amount": Decimal(500), "since_ms": middle_ms, "order": "smallest",
        },
        "ready, rare type": {"state": State.READY, "conversion_type": "nothing-such"},
    }  # fmt: skip
    asked: dict[str, Callable[[], object]] = {}
    for name, fields in searches.items():
        wanted = Search(**{"state": dead, **fields})
        asked[f"search, {name}"] = lambda wanted=wanted: search(store, wanted)  # type: ignore[misc]
    deep = search(store, Search(state=dead, order="largest"), limit=5_000, within_s=None).cursor
    asked["search, page 100 by amount"] = lambda: search(store, Search(state=dead, order="largest"), after=deep)
    asked["causes"] = lambda: dead_by_cause(store, Search())
    asked["preview"] = lambda: summary(store, Search(reason="timeout"))
    return asked


def _taken_ms(question: Callable[[], object]) -> tuple[float, float]:
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter()
        question()
        taken.append((time.perf_counter() - began) * 1000)
    taken.sort()
    return taken[len(taken) // 2], taken[-1]


class _Filling:
    """Sales of every kind, dead and ready."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._enqueue = load_script("trackdesk_producer.contract", "enqueue", allow_oom=False)
        self._next = 0
        self._chance = random.Random(1)
        self._kinds = [self._kind(number) for number in range(KINDS)]

    def _kind(self, number: int) -> tuple[bytes, str, str]:
        """Return body, fingerprint and amount of one kind of sale; the externalId is no part of the fingerprint."""
        amount = f"{self._chance.randrange(100, 100_000) / 100:.2f}"
        own = {"cid": f"click-{number // 3}", "customerId": f"customer-{number // 10}", "amount": {"value": amount}}
        conversion = parse_conversion(sale(order(0)) | {"conversionTypeCode": TYPES[number % len(TYPES)], **own})
        return post_body(conversion), fingerprint(conversion), amount

    def enqueue(self, count: int) -> None:
        """Put sales in."""
        for done in range(0, count, BATCH):
            arguments: list[Argument] = ["", envelope(self._store.keys.wakeups), NO_TRACE]
            for number in range(self._next, self._next + min(BATCH, count - done)):
                arguments += self._sale(number)
            self._next += min(BATCH, count - done)
            self._store.run(ScriptCall(self._enqueue, self._store.keys.prefix, tuple(arguments), lambda reply: reply))

    def bury(self, count: int) -> float:
        """Put sales in and make dead letters of them; return the server's µs per burial."""
        spent = 0
        for done in range(0, count, BATCH):
            self.enqueue(min(BATCH, count - done))
            claimed = self._store.run(self._store.jobs.claim(BATCH, lease_ms=LEASE_MS, limits=NO_LIMIT)).jobs
            settlements = []
            for job in claimed:
                reason = self._chance.choice(list(REASONS))
                status = "null" if REASONS[reason] is None else str(REASONS[reason])
                entry = f'{{"kind":"attempt","at_ms":1,"attempt":1,"reason":"{reason}","status":{status}}}'
                settlements.append(Settlement(job.id, job.token, Verb.BURY, reason, strikes=1, entry=entry))
            before = _script_us(self._store.client)
            self._store.run(self._store.jobs.settle(settlements, dedupe_window_ms=WINDOW_MS))
            spent += _script_us(self._store.client) - before
        return spent / count

    def redrive(self, count: int) -> float:
        """Redrive some by small plans; return the server's µs per dead letter, its part of the list included."""
        raw: Any = self._store.client.zrange(self._store.keys.dead, 0, count - 1)
        ids, fields = [identity.decode() for identity in raw], {"act": "redrive", "window_ms": "0", "limit": ""}
        before, made = _script_us(self._store.client), 0
        for start in range(0, len(ids), 50):
            plan, made = f"plan-bench-{time.monotonic_ns()}", made + 1
            plans.create(self._store, plan, fields, ids[start : start + 50], entry="{}")
            while plans.step(self._store, plan, rate_us=0).state == "listing":
                pass
            plans.transition(self._store, plan, "start", entry="{}", note="{}")
            plans.step(self._store, plan, rate_us=0)
        return (_script_us(self._store.client) - before) / len(ids)

    def _sale(self, number: int) -> tuple[Argument, ...]:
        body, mark, amount = self._kinds[number % KINDS]
        body = body.replace(order(0).encode(), order(number).encode())
        return (job_id(tenants(SHOPS)[number % SHOPS], order(number)), mark, amount, "EUR", 0, body)


def _script_us(client: redis.Redis) -> int:
    stats = client.info("commandstats")
    return int(stats["cmdstat_evalsha"]["usec"]) if "cmdstat_evalsha" in stats else 0
