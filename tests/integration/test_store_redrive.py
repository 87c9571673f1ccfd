"""Redrive: counted, and in the order asked for."""

import redis

from tests.support.store import Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import read_books


def test_redriven_jobs_are_counted_and_tried_in_the_order_given(client: redis.Redis, keys: Keys) -> None:
    store = Store(client, keys)
    ids = ["acme/b", "acme/c", "acme/a"]
    store.bury(*ids)

    assert store.redrive(*ids) == ["redriven"] * 3

    assert read_books(JobStore(client, keys))["acme"].jobs["redriven"] == 3
    assert [job.id for job in store.claim().jobs] == ids
