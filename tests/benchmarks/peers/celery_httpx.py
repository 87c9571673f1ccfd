"""Peer: what most shops write first, one Celery task per sale that posts it with httpx.

Late acks, so that a crash loses nothing Celery can keep, and retries with backoff; remote control and results are
off, else Celery's defaults. BENCH_STYLE says how it posts: ``post`` is `httpx.post`, which builds a client for each
sale; ``client`` shares one, as a developer who has measured would.

    python celery_httpx.py enqueue N        celery -A celery_httpx worker --pool threads --concurrency 50
"""

import json
import os
import sys
from typing import Any

import httpx
from celery import Celery

app = Celery("peer", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
)
URL = os.environ["BENCH_URL"]
LIMITS = httpx.Limits(max_connections=256, max_keepalive_connections=256)
post = httpx.post if os.environ["BENCH_STYLE"] == "post" else httpx.Client(limits=LIMITS, timeout=10).post


@app.task(bind=True, name="deliver", max_retries=20)
def deliver(self: Any, body: dict[str, Any]) -> None:
    try:
        answer = post(URL, json=body)
        answer.raise_for_status()
        answer.json()["cid"]
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise self.retry(exc=error, countdown=2**self.request.retries) from error


if __name__ == "__main__":
    body = json.loads(os.environ["BENCH_BODY"])
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(int(sys.argv[2])):
            body["externalId"] = f"order-{number:010d}"
            deliver.apply_async((body,), producer=producer)
