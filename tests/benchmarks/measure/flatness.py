"""Whether claim, settle and enqueue cost the same however many jobs wait and however many tenants share them.

The cost is what the server itself spends in the scripts, so that neither the client nor the way to it counts.
Each level has a server of its own, and all are measured in turn within each run.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import redis

from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.rig import STILL_REWRITE, Deployment, Rig
from tests.benchmarks.measure.sales import Store, tenants
from trackdesk_worker.domain.claim import ClaimedJob

OPERATIONS = ("enqueue", "claim", "settle")
SAME_SPREAD = "1,000 tenants to 100"
"""The same batch over as many tenants, ten times as many beside it: what the number of tenants itself costs. From one
tenant to many, a batch of 100 jobs for 100 tenants is 100 books, queues and turns instead of one."""
BATCH = 100


def measure_jobs(rig: Rig, runs: int) -> Runs:
    """Measure with more and more jobs waiting, of one tenant."""
    levels = [0, *([1_000, 10_000] if rig.scale.quick else [100_000, 1_000_000])]
    return _measure(rig, runs, {f"{level:,} jobs": (level, 1) for level in levels})


def measure_tenants(rig: Rig, runs: int) -> Runs:
    """Measure with the same jobs shared by more and more tenants; each call spans as many as it can."""
    jobs = rig.scale.of(50_000, 2_000)
    levels = [1, 100, *([] if rig.scale.quick else [1_000])]
    return _measure(rig, runs, {f"{level:,} tenants": (jobs, level) for level in levels})


def _measure(rig: Rig, runs: int, levels: Mapping[str, tuple[int, int]]) -> Runs:
    rounds = rig.scale.of(20, 3)
    with contextlib.ExitStack() as stack:
        stores: dict[str, tuple[Deployment, Store]] = {}
        for name, (jobs, shops) in levels.items():
            deployment = stack.enter_context(rig.alone(STILL_REWRITE))
            store = deployment.store(tenants=tenants(shops))
            rig.notify(f"filling a server for {name}")
            store.fill(jobs)
            _round(deployment.client, store)  # loads the scripts and warms what can be warmed
            stores[name] = deployment, store

        def once(_: int) -> Mapping[str, float]:
            costs: dict[str, list[Mapping[str, float]]] = {name: [] for name in stores}
            for _round_number in range(rounds):
                for name, (deployment, store) in stores.items():
                    costs[name].append(_round(deployment.client, store))
            return _compare({name: _medians(taken) for name, taken in costs.items()})

        measured = collect(runs, once)
        for deployment, _ in stores.values():
            deployment.check(large=True)
    return measured


def _compare(costs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    base = next(iter(costs.values()))
    for operation in OPERATIONS:
        for level, cost in costs.items():
            figures[f"{operation}, {level}"] = cost[operation]
        figures[f"{operation}, highest to first"] = max(cost[operation] for cost in costs.values()) / base[operation]
        if {"100 tenants", "1,000 tenants"} <= costs.keys():
            figures[f"{operation}, {SAME_SPREAD}"] = costs["1,000 tenants"][operation] / costs["100 tenants"][operation]
    return figures


def _medians(taken: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {operation: median(cost[operation] for cost in taken) for operation in OPERATIONS}


def _round(client: redis.Redis, store: Store) -> dict[str, float]:
    """Put in, claim and deliver one batch; the store holds as many jobs afterwards. Server µs per job."""
    claimed: list[ClaimedJob] = []
    calls: dict[str, Callable[[], None]] = {
        "enqueue": lambda: store.enqueue(BATCH),
        "claim": lambda: claimed.extend(store.claim(BATCH)),
        "settle": lambda: store.settle(claimed),
    }
    cost = {}
    for operation in OPERATIONS:
        before = _script_us(client)
        calls[operation]()
        cost[operation] = (_script_us(client) - before) / (len(claimed) if claimed else BATCH)
    return cost


def _script_us(client: redis.Redis) -> int:
    stats = client.info("commandstats")
    return int(stats["cmdstat_evalsha"]["usec"]) if "cmdstat_evalsha" in stats else 0
