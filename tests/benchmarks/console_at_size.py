"""How long the console's pages take on a store with many jobs: ``python -m tests.benchmarks.console_at_size 1000000``.

A third of the jobs are dead letters of some causes and two tenants, the rest delivered. Each page is asked for 30 times
after two; what is printed is the median and the slowest, in ms, over HTTP on this machine.
"""

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import redis

from tests.support.console import console_on
from tests.support.shop import Shop, sale
from trackdesk_producer import Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.local.embedded import EmbeddedServer

REASONS = ("type_not_found", "source_blocked", "offer_not_active", "server_error")
BATCH = 2000
PAGES = (
    "/",
    "/tenants",
    "/causes",
    "/dead",
    "/dead?order=largest",
    "/dead?tenant=t1&reason=type_not_found&order=largest&min=500",
    "/dead?external_id=order-7&state=any",
    "/plans/new?tenant=t0&reason=source_blocked",
    "/plans/new?tenant=t0&min=900",
    "/log",
)


def fill(server: EmbeddedServer, shop: Shop, jobs: int) -> None:
    """Enqueue, claim and settle so many."""
    chance = random.Random(7)
    producers = {
        tenant: Producer(server.url, tenant=tenant, namespace=shop.keys.namespace, timeout_s=10)
        for tenant in ("t0", "t1")
    }
    for start in range(0, jobs, BATCH):
        tenant = f"t{start // BATCH % 2}"
        amounts = [f"{chance.randrange(100, 100_000) / 100:.2f}" for _ in range(BATCH)]
        many = [sale(f"order-{start + n}", amount={"value": amounts[n]}) for n in range(BATCH)]
        assert all(receipt.ok for receipt in producers[tenant].enqueue_many(many))
        shop.client.hset(shop.keys.tenant(tenant), "window", 1_000_000)
        while claimed := shop.claim(BATCH):
            if start // BATCH % 3:
                shop.settle(claimed, Verb.DELIVER, "paired")
            else:
                shop.settle(claimed, Verb.BURY, REASONS[start // BATCH % len(REASONS)])


def time_of(client: httpx.Client, path: str) -> tuple[float, float]:
    """Return median and slowest of 30 visits, in ms."""
    taken = []
    for number in range(32):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        if number > 1:
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), max(taken)


def main(jobs: int) -> None:
    """Fill a store of its own and print a line per page."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder) / "valkey")
        server.start()
        keys = Keys("size")
        with redis.Redis(port=server.port) as client:
            began = time.perf_counter()
            fill(server, Shop(server, client, keys), jobs)
            print(f"{jobs:,} jobs in {time.perf_counter() - began:.0f} s", flush=True)
            people = Path(folder) / "people"
            with console_on(server, keys, people, clock=lambda: time.monotonic() * 1000) as console:
                token = {"Authorization": f"Bearer {console.tokens['admin']}"}
                with console.signed_in("operator") as visitor:
                    for path in PAGES:
                        console_ms = time_of(visitor, path)
                        print(f"{path:62} {console_ms[0]:7.1f} {console_ms[1]:7.1f}", flush=True)
                with console.client(headers=token) as api:
                    median, slowest = time_of(api, "/api/v1/status")
                    print(f"{'/api/v1/status':62} {median:7.1f} {slowest:7.1f}")
        server.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
