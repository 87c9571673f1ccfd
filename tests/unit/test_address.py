"""Addresses of the store: taken apart rightly, spelled as Celery wants them, refused without repeating a secret."""

import pytest

from trackdesk_producer import OptionInvalid
from trackdesk_producer._redis.address import parse_address
from trackdesk_worker.process.celery_app import _broker

SENTINELS = "sentinel://ann:p%40ss@one:26380,two,[::1]:26381/main"


def test_sentinels_are_read_with_their_master_and_the_login_of_its_servers() -> None:
    address = parse_address(SENTINELS)
    assert address.sentinels == [("one", 26380), ("two", 26379), ("::1", 26381)]
    assert (address.master, address.tls) == ("main", False)
    assert address.options == {"db": 0, "username": "ann", "password": "p@ss"}
    assert "p@ss" not in repr(address)


def test_tls_takes_its_ca_from_the_address() -> None:
    assert parse_address("rediss://h/0?ssl_ca_certs=/ca.pem").tls_options == {"ssl_ca_certs": "/ca.pem"}
    assert parse_address("sentinels://h/main?ssl_ca_certs=/ca.pem").tls_options == {"ssl_ca_certs": "/ca.pem"}


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://one:26379",
        "sentinel://one:26379/",
        "sentinel://one,,two/main",
        "sentinel://one:s3cret/main",
        "sentinel://one/main/s3cret",
        "sentinel://one/main?s3cret=1",
        "redis://one:s3cret/0",
        "redis://one:0/0",
        "redis://one/s3cret",
        "redis://one/0/s3cret",
        "redis://:12/s3cret@one/0",
        "redis://:12?s3cret@one/0",
        "redis://s3cret#@one/0",
        "http://s3cret",
        "one:6379",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(OptionInvalid) as caught:
        parse_address(url)
    assert "s3cret" not in str(caught.value)


def test_celery_gets_the_same_store() -> None:
    assert _broker("redis://:p%40ss@h/2")["broker_url"] == "redis://:p%40ss@h:6379/2"
    assert _broker("unix:///run/redis.sock")["broker_url"] == "redis+socket:///run/redis.sock"
    secure = _broker("rediss://ann:x@h:6380/0?ssl_ca_certs=/ca.pem")
    assert secure["broker_url"] == "rediss://ann:x@h:6380/0"
    assert secure["broker_use_ssl"] == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    several = _broker(SENTINELS)
    assert several["broker_url"] == (
        "sentinel://ann:p%40ss@one:26380/0;sentinel://ann:p%40ss@two:26379/0;sentinel://ann:p%40ss@[::1]:26381/0"
    )
    assert several["transport"] == {"master_name": "main"}
