"""Our hand-made wake-up against Celery's own: the same message in every part that a worker reads."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.entity import Queue

from tests.support.store import Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.wakeup import TASK_NAME
from trackdesk_worker.local.embedded import EmbeddedServer


@pytest.fixture
def app(server: EmbeddedServer, keys: Keys) -> Iterator[Celery]:
    """A Celery application as a shop's engineer would write it, on the queue of the wake-ups."""
    app = Celery("test", broker=server.url, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(keys.wakeups, exchange="", routing_key=keys.wakeups)],
        task_default_queue=keys.wakeups,
        task_ignore_result=True,
        broker_connection_retry_on_startup=True,
    )

    @app.task(name=TASK_NAME, shared=False)  # type: ignore[untyped-decorator]
    def deliver() -> None:
        """Never run here."""

    yield app
    app.close()


@pytest.fixture
def ours(client: redis.Redis, keys: Keys) -> dict[str, Any]:
    """The message that an enqueue pushed."""
    Store(client, keys).enqueue("acme/1")
    raw: Any = client.rpop(keys.wakeups)
    assert raw is not None
    return json.loads(raw)


@pytest.fixture
def theirs(app: Celery, client: redis.Redis, keys: Keys) -> dict[str, Any]:
    """The message that `apply_async` pushed."""
    app.tasks[TASK_NAME].apply_async(queue=keys.wakeups)
    raw: Any = client.rpop(keys.wakeups)
    assert raw is not None, "Celery writes to the very key the scripts write to"
    return json.loads(raw)


def test_the_envelope_has_the_parts_of_celerys_own(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    assert ours["properties"].keys() <= theirs["properties"].keys()
    assert ours["headers"].keys() <= theirs["headers"].keys()


def test_what_decides_decoding_and_routing_is_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in ("content-type", "content-encoding"):
        assert ours[name] == theirs[name]
    for name in ("delivery_mode", "delivery_info", "priority", "body_encoding"):
        assert ours["properties"][name] == theirs["properties"][name], name
    assert ours["headers"]["task"] == theirs["headers"]["task"] == TASK_NAME


def test_the_body_says_the_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(theirs["body"]))


def test_the_tag_and_the_id_are_text_that_the_script_filled_in(ours: dict[str, Any]) -> None:
    assert ours["properties"]["delivery_tag"] == ours["headers"]["id"]
    assert ours["headers"]["id"].isdigit()


def test_kombu_takes_our_message_off_the_queue_and_acknowledges_it(
    app: Celery, client: redis.Redis, keys: Keys
) -> None:
    Store(client, keys).enqueue("acme/1")
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        message = channel.basic_get(keys.wakeups)
        assert message is not None
        assert message.headers["task"] == TASK_NAME
        assert message.decode() == [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        message.ack()
        assert channel.basic_get(keys.wakeups) is None


def test_two_messages_are_two_to_kombu(app: Celery, client: redis.Redis, keys: Keys) -> None:
    store = Store(client, keys)
    store.enqueue("acme/1")
    store.enqueue("acme/2")
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        tags = {channel.basic_get(keys.wakeups).delivery_tag for _ in range(2)}
        assert len(tags) == 2
