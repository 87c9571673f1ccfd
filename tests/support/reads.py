"""Reads of the store that tests compare with."""

import json
from collections import Counter
from typing import Any

import redis

from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.store.dead_letters.causes import read_causes


def read_audit_log(client: redis.Redis, keys: Keys) -> list[dict[str, Any]]:
    """Return every entry of the audit log, the newest last."""
    return [json.loads(raw) for raw in client.lrange(keys.audit_log, 0, -1)]


def group_sizes(client: redis.Redis, keys: Keys) -> Counter[tuple[str, str]]:
    """Return the number of dead letters by tenant and reason, as the causes count them."""
    sizes: Counter[tuple[str, str]] = Counter()
    for cause in read_causes(client, keys):
        sizes[cause.tenant, cause.reason] += cause.jobs
    return sizes
