"""What is wrong with a producer's arguments is said before anything is connected, with the argument's name."""

import pickle
from typing import Any

import pytest

from trackdesk_producer import AsyncProducer, OptionInvalid, Producer, ProducerError

STARTS = "url must start with redis://, rediss://, unix://, sentinel:// or sentinels://"
WRITE = (
    "url must be written as redis://user:password@host:port/0, with reserved characters of the password percent-encoded"
)
DATABASE = "url must end in the number of a database, such as redis://host:6379/0"
SENTINEL = "url must be written as sentinel://user:password@host:port,host:port/master"

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no URL": ({"url": None}, "url must be given, such as redis://host:6379/0, not None"),
    "a URL that is a number": (
        {"url": 6379},
        "url must be text such as redis://host:6379/0, not a value of type int",
    ),
    "a URL that is bytes": (
        {"url": b"redis://host"},
        "url must be text such as redis://host:6379/0, not a value of type bytes",
    ),
    "an empty URL": ({"url": ""}, STARTS),
    "an address of the web": ({"url": "https://host:6379"}, STARTS),
    "a host without a scheme": ({"url": "host:6379"}, STARTS),
    "a port that is too high": ({"url": "redis://host:99999/0"}, WRITE),
    "port 0": ({"url": "redis://host:0/0"}, WRITE),
    "a port that is a word": ({"url": "redis://host:port/0"}, WRITE),
    "a password with a slash": ({"url": "redis://:12/34@host:6379/0"}, DATABASE),
    "a password with a question mark": ({"url": "redis://:12?34@host:6379/0"}, WRITE),
    "a password with a hash": ({"url": "redis://u:12#34@host:6379/0"}, WRITE),
    "a database that is a name": ({"url": "redis://host:6379/shop"}, DATABASE),
    "a database below 0": ({"url": "redis://host:6379/-1"}, DATABASE),
    "two databases": ({"url": "redis://host:6379/0/1"}, DATABASE),
    "an option nobody knows": (
        {"url": "redis://host:6379/0?tiemout=1"},
        "url has an option that no connection takes, behind the question mark",
    ),
    "an option of another type": ({"url": "redis://host:6379/0?socket_timeout=soon"}, WRITE),
    "Sentinels without a master": ({"url": "sentinel://host:26379"}, SENTINEL),
    "Sentinels with an option": (
        {"url": "sentinel://host:26379/main?timeout=1"},
        "url takes only options that begin with ssl_ behind the question mark",
    ),
    "no time at all": (
        {"timeout_s": 0},
        "timeout_s must be a number of seconds above 0 and at most 86400, not 0",
    ),
    "a time below 0": (
        {"timeout_s": -1.5},
        "timeout_s must be a number of seconds above 0 and at most 86400, not -1.5",
    ),
    "a time without end": (
        {"timeout_s": float("inf")},
        "timeout_s must be a number of seconds above 0 and at most 86400, not inf",
    ),
    "a time that is no number": (
        {"timeout_s": float("nan")},
        "timeout_s must be a number of seconds above 0 and at most 86400, not nan",
    ),
    "a time that is None": (
        {"timeout_s": None},
        "timeout_s must be a number of seconds above 0 and at most 86400, not a value of type NoneType",
    ),
    "a time that is text": (
        {"connect_timeout_s": "1"},
        "connect_timeout_s must be a number of seconds above 0 and at most 86400, not a value of type str",
    ),
    "a time that is true": (
        {"connect_timeout_s": True},
        "connect_timeout_s must be a number of seconds above 0 and at most 86400, not True",
    ),
    "no connections": ({"max_connections": 0}, "max_connections must be a whole number of at least 1, not 0"),
    "half a connection": ({"max_connections": 0.5}, "max_connections must be a whole number of at least 1, not 0.5"),
    "no replicas": ({"replicas": 0}, "replicas must be a whole number of at least 1, not 0"),
    "a window of text": (
        {"dedupe_window_s": "30d"},
        "dedupe_window_s must be a whole number of at least 1, not a value of type str",
    ),
    "a durability nobody knows": (
        {"durability": "fast"},
        "durability must be one of 'memory', 'fsync', 'replicated', not 'fast'",
    ),
    "a durability that is None": (
        {"durability": None},
        "durability must be one of 'memory', 'fsync', 'replicated', not a value of type NoneType",
    ),
    "a tenant with a dot": (
        {"tenant": "my-shop.trackdesk.com"},
        "tenant must be one lower-case DNS label: 1 to 63 letters a-z, digits and inner hyphens (got text of 21 "
        "characters): give only the part before .trackdesk.com, such as my-shop",
    ),
    "a namespace with a space": (
        {"namespace": "a b"},
        "namespace must be 1 to 64 letters, digits, '_', '.' and '-' (got text of 3 characters): choose a plain name, "
        "such as trackdesk",
    ),
}


@pytest.mark.parametrize("kind", [Producer, AsyncProducer])
@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_an_argument_that_cannot_be_used_is_named(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ProducerError) as refused:
        kind(**arguments)
    assert str(refused.value) == message


def test_a_refused_option_is_named_for_programs_and_survives_pickling() -> None:
    with pytest.raises(OptionInvalid) as refused:
        Producer(timeout_s=0)
    assert refused.value.option == "timeout_s"
    again = pickle.loads(pickle.dumps(refused.value))
    assert (str(again), again.option, again.rule) == (str(refused.value), "timeout_s", refused.value.rule)


def test_what_may_be_written_in_a_url_still_may() -> None:
    for url in (
        "redis://host", "redis://host/", "redis://host:6379/15", "redis:///3", "redis://host/0?socket_timeout=5",
        "redis://host?db=3", "rediss://u:p%2Fw@host/0?ssl_cert_reqs=none", "unix:///run/redis.sock?db=1",
        "sentinel://one,two:26380/main/2",
    ):  # fmt: skip
        Producer(url)
        AsyncProducer(url)
