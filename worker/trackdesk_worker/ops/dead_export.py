"""Dead letters as JSON lines: enough to enqueue them again elsewhere, and to read why they died."""

import json
from typing import BinaryIO

import redis

from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops.moments import iso
from trackdesk_worker.ops.operations_log import Act, Operator, record
from trackdesk_worker.store.finding import walk
from trackdesk_worker.store.search import Search

ABOUT = frozenset({"reason", "died_at"})
"""Keys of a line that are about the death, beside the conversion's; import passes them over."""


def export(client: redis.Redis, keys: Keys, wanted: Search, operator: Operator, target: BinaryIO) -> int:
    """Write the dead letters of a filter, the oldest first; return how many. Flat memory, on record before it starts.

    Each line is the guide's POST body and ``tenant``, ``reason``, ``died_at``. They stay dead letters.
    """
    record(client, keys, Act.EXPORT, operator, count=client.zcard(keys.dead), filter=str(wanted), phase="started")
    count = 0
    for letter in walk(client, keys, wanted):
        about = {"tenant": letter.record.tenant, "reason": letter.reason, "died_at": iso(letter.at_ms)}
        line = {**json.loads(letter.record.body), **about}
        target.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        count += 1
    record(client, keys, Act.EXPORT, operator, count=count, filter=str(wanted), phase="finished")
    return count
