"""What a job costs Redis in memory, ready and as a tombstone."""

from collections.abc import Mapping

import redis

from tests.benchmarks.measure.figures import Runs, collect
from tests.benchmarks.measure.rig import STILL_REWRITE, Rig
from tests.benchmarks.measure.sales import body_of, order


def measure(rig: Rig, runs: int) -> Runs:
    """Fill a server, deliver everything, and compare its memory at the three moments.

    The number of jobs is just below a power of two, where the table of all keys is as full as it gets; just above
    one it holds up to twice the slots, 8 bytes more a job.
    """
    jobs = rig.scale.of(131_000, 8_000)
    payload = len(body_of(order(0)))

    def once(_: int) -> Mapping[str, float]:
        with rig.alone(STILL_REWRITE) as deployment:
            store = deployment.store()
            store.enqueue(1)
            store.finish(1)
            empty = _used(deployment.client)
            store.fill(jobs)
            ready = _used(deployment.client)
            store.finish(jobs)
            ended = _used(deployment.client)
            deployment.check()
        per_job = (ready - empty) / jobs
        return {"ready job": per_job, "ready job above payload": per_job - payload, "tombstone": (ended - empty) / jobs}

    return collect(runs, once)


def _used(client: redis.Redis) -> int:
    """Memory that is data: without the log of slow calls, the buffers of the append-only file and of connections."""
    client.slowlog_reset()
    client.execute_command("MEMORY", "PURGE")
    memory = client.info("memory")
    buffers = ("mem_aof_buffer", "mem_clients_normal", "mem_replication_backlog")
    return int(memory["used_memory"]) - sum(int(memory.get(name, 0)) for name in buffers)
