"""Settings per tenant, from the file to the store, and the commands that show them."""

from pathlib import Path

import pytest
import redis

from tests.support.cli import Cli
from tests.support.reads import read_audit_log
from tests.support.shop import Shop, sale
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

pytestmark = pytest.mark.parametrize("server", ["valkey"], indirect=True)


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server.url, keys, monkeypatch, capsys)


def test_tenants_shows_pace_drain_time_and_lateness(cli: Cli, shop: Shop, tmp_path: Path) -> None:
    config = tmp_path / "tenants.toml"
    config.write_text("[acme]\nrate_limit = 20\n\n[beta]\nrate_limit = 0\n")
    cli.env(CONFIG=str(config), HORIZON_S="1")
    with shop.producer as producer:
        producer.enqueue_many([sale(f"o-{number}") for number in range(100)])
    (acme,) = [one for one in cli("tenants", "--json").json if one["tenant"] == "acme"]
    assert acme["rate_per_s"] == 20
    assert acme["drain_s"] == pytest.approx(5, abs=0.2)
    assert 60 <= acme["late_jobs"] <= 100, "all but the first second's worth"
    shown = cli("tenants")
    assert "20/s" in shown.out
    assert "will pass their horizon" in cli("status").err


def test_an_open_breaker_is_shown_as_one(cli: Cli, shop: Shop, keys: Keys, client: redis.Redis) -> None:
    with shop.producer as producer:
        producer.enqueue(sale("o-1"))
    client.hset(keys.tenant("acme"), mapping={"hold": "outage", "held_since": 1, "probe_at": 2})
    (blocked,) = cli("status", "--json").json["blocked"]
    assert blocked["kind"] == "breaker"
    assert "breaker" in cli("tenants").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[acme]\nrate = 5\n", "rate is not a setting"),
        ("[ACME]\nrate_limit = 5\n", "DNS label"),
        ("rate_limit = 5\n", "outside a table"),
        ("[acme\n", "is not TOML"),
        ('[acme]\napi_key_file = "/nowhere/key"\n', "api_key_file cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence_at_the_start(
    cli: Cli, tmp_path: Path, text: str, message: str
) -> None:
    config = tmp_path / "tenants.toml"
    config.write_text(text)
    cli.env(CONFIG=str(config), METRICS_PORT="0")
    refused = cli("worker")
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1


def test_a_tenant_that_reuses_order_ids_has_the_type_in_its_identity(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "tenants.toml"
    config.write_text('[acme]\nidentity = "type_and_external_id"\n')
    cli.env(CONFIG=str(config), TENANT="acme")
    cid = "6f1c0a52-1111-4222-8333-444455556666"
    for conversion_type in ("sale", "lead"):
        enqueued = cli("enqueue", "--type", conversion_type, "--cid", cid, "--external-id", "o-1", "--json")
        assert enqueued.json["status"] == "accepted"
    assert cli("cancel", "o-1", "--type", "lead", "--json").json["status"] == "cancelled"
    assert cli("show", "o-1", "--type", "sale", "--json").json["state"] == "ready"


def test_restored_puts_every_unfinished_sale_in_doubt_by_name_and_reason(
    cli: Cli, shop: Shop, keys: Keys, client: redis.Redis
) -> None:
    shop.sell("o-1")
    shop.sell("o-2", tenant="beta")
    assert cli("restored", "--reason", "disk lost").code == 2, "without a terminal it wants --yes"
    assert cli("restored", "--yes").code == 2, "and always a reason"
    assert cli("restored", "--reason", "disk lost", "--yes", "--tenant", "gamma").code == 1
    assert cli("restored", "--reason", "disk lost", "--yes", "--json").json == {"tenant": None, "tenants": 2}
    assert all(job.ambiguous for job in shop.claim())
    assert cli("show", "o-1", "--tenant", "acme", "--json").json["may_have_landed"]
    (entry,) = read_audit_log(JobStore(client, keys))
    assert (entry["kind"], entry["operator"], entry["reason"]) == ("restored", "ann", "disk lost")
