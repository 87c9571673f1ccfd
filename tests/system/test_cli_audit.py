"""`audit` as scripts and operators use it."""

import pytest
import redis

from tests.support.cli import Cli
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server.url, keys, monkeypatch, capsys)


def test_a_sound_store_ends_with_exit_0(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    told = cli("audit", "--json")
    assert (told.code, told.json["ok"], told.json["discrepancies"], told.json["records"]) == (0, True, [], 1)
    assert "everything agrees: 1 records, 1 accepted (100.50 EUR)" in cli("audit").out


def test_a_damaged_store_ends_with_exit_1_and_the_damage_by_name(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    shop.client.delete(shop.keys.job("acme/o-1"))
    told = cli("audit", "--json")
    assert told.code == 1
    assert {"kind": "record_missing", "job_id": "acme/o-1"}.items() <= told.json["discrepancies"][0].items()
    read = cli("audit")
    assert read.code == 1
    assert "record missing" in read.out
