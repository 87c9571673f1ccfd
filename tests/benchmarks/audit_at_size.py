"""Measure the audit of a large store, online: `python tests/benchmarks/audit_at_size.py 1000000`.

Fills a Valkey of its own with jobs in every state, lets work go on, and runs `trackdesk audit` as an operator would: in
a process of its own, whose time and memory it prints. Then it damages three records and audits again.
"""

import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

from trackdesk_producer import Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Settlement, Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

BATCH = 500
WINDOW_MS = 30 * 86_400_000
VERBS = (*[Verb.DELIVER] * 7, Verb.BURY, Verb.RETRY)
"""Of ten jobs seven are delivered, one dead, one scheduled; one stays ready."""


def sale(number: int) -> dict[str, object]:
    """Return a sale like any other."""
    return {
        "conversionTypeCode": "sale",
        "cid": "7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11",
        "amount": {"value": f"{number % 500}.50"},
        "currency": {"code": "EUR"},
        "externalId": f"order-{number}",
    }


def settle(store: JobStore, wanted: int) -> int:
    """End what can be claimed, in every way."""
    limits = Limits(rate_per_s=0, cap=1_000_000)
    claimed = store.run(store.jobs.claim(wanted, lease_ms=30_000, limits=limits)).jobs
    ends = [
        Settlement(
            job.id,
            job.token,
            verb := VERBS[number % len(VERBS)],
            "paired" if verb is Verb.DELIVER else "server_error",
            delay_ms=86_400_000,
            entry="" if verb is Verb.DELIVER else '{"kind":"attempt"}',
        )
        for number, job in enumerate(claimed)
    ]
    store.run(store.jobs.settle(ends, dedupe_window_ms=WINDOW_MS))
    return len(claimed)


def fill(store: JobStore, producer: Producer, number: int) -> None:
    """Enqueue, and end nine of ten."""
    for start in range(0, number, BATCH):
        producer.enqueue_many(sale(n) for n in range(start, min(number, start + BATCH)))
        store.client.hset(store.keys.tenant("acme"), "window", 1_000_000)
        settle(store, BATCH * 9 // 10)


def audit(environment: dict[str, str]) -> None:
    """Run the command and print what it took."""
    started = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "trackdesk_worker", "audit"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(ended.stdout + ended.stderr)
    print(f"exit {ended.returncode}, {took:.0f} s, largest child process so far {peak:.0f} MB", flush=True)


def main(number: int) -> None:
    """Fill, audit online, damage, audit again."""
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedServer(Path(directory), config={"appendfsync": "everysec"})
        server.start()
        keys = Keys("bench")
        environment = {**os.environ, "TRACKDESK_REDIS_URL": server.url, "TRACKDESK_NAMESPACE": keys.namespace}
        try:
            with (
                redis.Redis(port=server.port) as client,
                Producer(server.url, tenant="acme", namespace=keys.namespace, timeout_s=30) as producer,
            ):
                store = JobStore(client, keys)
                started = time.monotonic()
                fill(store, producer, number)
                print(f"{number:,} jobs in {time.monotonic() - started:.0f} s", flush=True)
                stop = threading.Event()
                moved = [0]

                def work() -> None:
                    while not stop.wait(0.05):
                        producer.enqueue_many(sale(number + moved[0] + n) for n in range(20))
                        moved[0] += settle(store, 20)

                thread = threading.Thread(target=work)
                thread.start()
                audit(environment)
                stop.set()
                thread.join()
                print(f"{moved[0]:,} jobs were accepted and ended meanwhile", flush=True)
                client.delete(keys.job("acme/order-7"))
                victim = next(iter(client.zrange(keys.dead, 0, 0))).decode()
                raw = client.get(keys.job(victim)) or b""
                client.set(keys.job(victim), raw.replace(b'"currency":{"code":"EUR"', b'"currency":{"code":"USD"'))
                client.zrem(keys.scheduled, *client.zrange(keys.scheduled, 0, 0))
                audit(environment)
        finally:
            server.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
