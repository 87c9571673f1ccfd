"""Reads of the store that tests compare with."""

import json
from collections import Counter
from typing import Any

from trackdesk_worker.store.dead_letters.causes import read_causes
from trackdesk_worker.store.job_store import JobStore


def read_audit_log(store: JobStore) -> list[dict[str, Any]]:
    """Return every entry of the audit log, the newest last."""
    return [json.loads(raw) for raw in store.client.lrange(store.keys.audit_log, 0, -1)]


def group_sizes(store: JobStore) -> Counter[tuple[str, str]]:
    """Return the number of dead letters by tenant and reason, as the causes count them."""
    sizes: Counter[tuple[str, str]] = Counter()
    for cause in read_causes(store):
        sizes[cause.tenant, cause.reason] += cause.jobs
    return sizes
