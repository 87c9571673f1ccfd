"""What a sale costs in memory and on disk, for docs/guides/sizing.md: `python tests/benchmarks/sizing.py 20000`.

A Valkey of its own, one real worker, a simulated Trackdesk; memory and the append-only file are read while the sales
wait, are delivered, and lie dead. Counts, not times: a busy machine changes nothing.
"""

import sys
import tempfile
from pathlib import Path

import redis

from tests.support.simulator import simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer

CUSTOM = {"advS1": "web", "advS2": "newsletter-autumn"}


def sale(number: int, kind: str) -> dict[str, object]:
    """Return a sale as shops send them: a click id, an amount, a customer, two custom parameters."""
    return {
        "conversionTypeCode": kind,
        "cid": f"7b0c9f2e-0c4c-4a8e-9a52-4a4a{number:08x}",
        "amount": {"value": f"{number % 500}.50"},
        "currency": {"code": "EUR"},
        "externalId": f"order-{number}",
        "customerId": f"customer-{number}",
        "customParams": CUSTOM,
    }


class Meter:
    """Reads the server's memory and the size of its append-only file, per sale since the last reading."""

    def __init__(self, client: redis.Redis, data: Path, sales: int) -> None:
        self._client, self._data, self._sales = client, data, sales
        self._before = self._now()

    def _now(self) -> tuple[int, int]:
        files = sum(path.stat().st_size for path in self._data.rglob("appendonly*") if path.is_file())
        return int(self._client.info("memory")["used_memory"]), files

    def read(self, what: str) -> None:
        """Print both differences."""
        now = self._now()
        memory, disk = ((after - before) / self._sales for before, after in zip(self._before, now, strict=True))
        print(f"{what}: {memory:+,.0f} B of memory, {disk:+,.0f} B of append-only file per sale", flush=True)
        self._before = now


def resident_mib(pid: int) -> float:
    """Return the memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """Measure."""
    sales = int(sys.argv[1])
    keys = Keys("sizing")
    with tempfile.TemporaryDirectory() as home, simulator_process() as trackdesk:
        server = EmbeddedServer(Path(home) / "store", config={"auto-aof-rewrite-percentage": "0"})
        server.start()
        logs = Path(home) / "logs"
        logs.mkdir()
        try:
            with deployment(server, keys, logs, trackdesk.base_url) as run:
                for kind, end in (("sale", "delivered"), ("no-such-type", "dead")):
                    first = 0 if kind == "sale" else sales
                    meter = Meter(run.client, server.directory, sales)
                    assert all(one.ok for one in run.producer.enqueue_many(sale(first + n, kind) for n in range(sales)))
                    meter.read(f"accepted ({kind})")
                    worker = run.start_worker()
                    wait_until(lambda: run.book().jobs[end] == sales, end, within_s=600, poll_s=0.5)  # noqa: B023 - awaited at once
                    meter.read(end)
                    print(f"worker: {resident_mib(worker.pid):.0f} MiB resident")
                    worker.terminate()
                    worker.wait(30)
                run.client.execute_command("BGREWRITEAOF")
                wait_until(lambda: not run.client.info("persistence")["aof_rewrite_in_progress"], "rewritten")
                files = sum(path.stat().st_size for path in server.directory.rglob("appendonly*") if path.is_file())
                print(f"after a rewrite: {files / sales / 2:,.0f} B of append-only file per sale held")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
