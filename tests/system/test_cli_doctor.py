"""`doctor` refuses what loses money, with the line that fixes it, and never prints a secret."""

from pathlib import Path

import pytest
import redis

from tests.support.cli import Cli
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, free_port
from trackdesk_worker.ops import doctor
from trackdesk_worker.ops.doctor import Level, check_server
from trackdesk_worker.store.job_store import JobStore


@pytest.fixture
def cli(
    own_server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    return Cli(own_server.url, keys, monkeypatch, capsys)


@pytest.fixture
def own_client(own_server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(port=own_server.port)


def levels(cli: Cli) -> dict[str, str]:
    return {check["name"]: check["level"] for check in cli("doctor", "--json").json["checks"]}


def test_a_sound_deployment_is_healthy(cli: Cli, own_client: redis.Redis, keys: Keys) -> None:
    own_client.config_set("maxmemory", 10**9)
    own_client.zadd(keys.workers, {"host:1": JobStore(own_client, keys).time_ms()})
    result = cli("doctor", "--json")
    assert result.code == 0
    assert {check["level"] for check in result.json["checks"]} == {"ok"}
    assert cli("doctor").code == 0


def test_each_setting_of_the_server_that_loses_money_fails(cli: Cli, own_client: redis.Redis) -> None:
    own_client.config_set("maxmemory-policy", "allkeys-lru")
    own_client.config_set("appendfsync", "no")
    own_client.config_set("appendonly", "no")
    result = cli("doctor", "--json")
    assert result.code == 1
    failed = {check["name"]: check["remedy"] for check in result.json["checks"] if check["level"] == "fail"}
    assert failed == {
        "eviction": "CONFIG SET maxmemory-policy noeviction",
        "aof": "CONFIG SET appendonly yes, and in the server's file",
        "fsync": "CONFIG SET appendfsync everysec",
    }
    read = cli("doctor")
    assert read.code == 1
    assert "→ CONFIG SET maxmemory-policy noeviction" in read.out


def test_a_store_that_is_nearly_full_fails(cli: Cli, own_client: redis.Redis, keys: Keys) -> None:
    own_client.config_set("maxmemory", int(own_client.info("memory")["used_memory"] * 1.02))
    assert levels(cli)["memory"] == "fail"
    own_client.config_set("maxmemory", 0)
    own_client.set(keys.admission, 1)
    assert (levels(cli)["memory"], levels(cli)["admission"]) == ("warn", "fail")


def test_plain_http_to_another_machine_fails_and_to_this_one_is_a_trial(cli: Cli) -> None:
    cli.env(BASE_URL="http://{tenant}.trackdesk.com")
    assert levels(cli)["base url"] == "fail"
    cli.env(BASE_URL="http://127.0.0.1:9999/{tenant}")
    assert levels(cli)["base url"] == "warn"


def test_several_tenants_on_one_host_fail(
    cli: Cli, own_server: EmbeddedServer, own_client: redis.Redis, keys: Keys
) -> None:
    shop = Shop(own_server, own_client, keys)
    shop.sell("o-1")
    shop.sell("o-2", tenant="bert")
    assert levels(cli)["tenants"] == "ok"
    cli.env(BASE_URL="https://acme.trackdesk.com")
    assert levels(cli)["tenants"] == "fail"


def test_settings_that_are_no_deployment_fail(cli: Cli) -> None:
    cli.env(TIMEOUT_S="30", LEASE_S="20")
    result = cli("doctor", "--json")
    assert (result.code, result.json["checks"][0]["name"]) == (1, "settings")
    assert "TIMEOUT_S" in result.json["checks"][0]["finding"]


def test_a_lease_with_little_room_is_a_warning(cli: Cli) -> None:
    cli.env(TIMEOUT_S="30", LEASE_S="32")
    assert levels(cli)["lease"] == "warn"


def test_a_clock_that_is_far_off_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    right = JobStore.time_ms
    monkeypatch.setattr(JobStore, "time_ms", lambda store: right(store) + 40_000)
    assert levels(cli)["clock"] == "fail"
    monkeypatch.setattr(JobStore, "time_ms", lambda store: right(store) + 4_000)
    assert levels(cli)["clock"] == "warn"


def test_durability_that_cannot_be_met_fails(cli: Cli) -> None:
    cli.env(DURABILITY="fsync")
    assert levels(cli)["durability"] == "ok"
    cli.env(DURABILITY="replicated")
    assert levels(cli)["durability"] == "fail"


def test_fsync_needs_a_server_that_knows_it(
    server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(server.url, keys, monkeypatch, capsys)
    cli.env(DURABILITY="fsync")
    with redis.Redis(port=server.port) as client:
        try:
            client.execute_command("WAITAOF", 0, 0, 1)
            able = True
        except redis.ResponseError:
            able = False
    assert levels(cli)["durability"] == ("ok" if able else "fail")


def test_secrets_are_never_printed(cli: Cli, tmp_path: Path) -> None:
    cli.env(API_KEY="s3cr3t-key", REDIS_URL=f"redis://:s3cr3t-pass@127.0.0.1:{free_port()}/0")
    result = cli("doctor", "--json")
    assert result.code == 1
    assert {check["name"]: check["level"] for check in result.json["checks"]}["secrets"] == "warn"
    assert "s3cr3t" not in result.out + result.err + cli("doctor").out
    file = tmp_path / "key"
    file.write_text("s3cr3t-key")
    cli.env(API_KEY="", API_KEY_FILE=str(file))
    assert "secrets" not in levels(cli)


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ({"redis_version": "6.2.1"}, "version"),
        ({"redis_version": "7.2.4", "role": "slave"}, "role"),
        ({"redis_version": "7.2.4", "aof_enabled": 1, "aof_last_write_status": "err"}, "aof"),
    ],
)
def test_a_server_that_cannot_hold_money_fails(info: dict[str, object], name: str) -> None:
    assert name in {check.name for check in check_server(info) if check.level is Level.FAIL}


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("redis://cache.internal:6379/0", "warn"),
        ("redis://:pw@cache.internal:6379/0", "warn"),
        ("rediss://:pw@cache.internal:6379/0", "ok"),
        ("unix:///run/redis.sock", "ok"),
    ],
)
def test_the_way_to_the_store_is_looked_at(url: str, level: str) -> None:
    from trackdesk_worker.config.settings import load_settings

    settings = load_settings(redis_url=url)
    assert {c.name: c.level.value for c in doctor.check_settings(settings, [])}["store url"] == level


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        ('[acme]\nburst = 3\n[other]\napi_key_file = "{key}"', "ok", "2 tables"),
        ('[acme]\nbase_url = "https://xn--a.trackdesk.com"', "fail", "base URL is not an address"),
        ('[acme]\napi_key_file = "{key}.gone"', "fail", "api_key_file cannot be read"),
        ('[acme]\nbase_url = "http://trackdesk.example"', "fail", "plain http to another machine"),
        ("[acme", "fail", "not TOML"),
    ],
)
def test_the_tenants_file_and_what_it_names_are_read_as_a_worker_reads_them(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, level: str, said: str
) -> None:
    file, key = tmp_path / "tenants.toml", tmp_path / "key"
    key.write_text("s3cret")
    file.write_text(text.replace("{key}", str(key)))
    monkeypatch.setenv("TRACKDESK_CONFIG", str(file))
    result = cli("doctor", "--json")
    (check,) = [check for check in result.json["checks"] if check["name"] == "tenants file"]
    assert (check["level"], said in check["finding"]) == (level, True)
    assert "s3cret" not in result.out
