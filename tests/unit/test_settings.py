"""Settings: from variables, from files that variables name, and each refusal as a plain sentence."""

import os
from pathlib import Path

import pytest

from trackdesk_producer import Durability
from trackdesk_worker.config.settings import LEASE_MARGIN_S, PREFIX, Settings, SettingsInvalid, load_settings
from trackdesk_worker.domain.limits import Breaker, Shares
from trackdesk_worker.trackdesk.created_at import CreatedAt


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return what is said about wrong variables."""
    for name, value in variables.items():
        monkeypatch.setenv(f"{PREFIX}{name}", value)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_without_any_variable_the_defaults_make_a_deployment() -> None:
    settings = load_settings()
    assert settings.redis_url.get_secret_value() == "redis://localhost:6379/0"
    assert (settings.namespace, settings.tenant, settings.api_key) == ("trackdesk", None, None)
    assert (settings.base_url, settings.method) == ("https://{tenant}.trackdesk.com", "POST")
    assert (settings.rate_limit, settings.max_attempts, settings.durability) == (5, 20, Durability.MEMORY)
    assert settings.dedupe_window_s == 30 * 86_400


def test_variables_are_read_with_their_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDESK_TENANT", "acme")
    monkeypatch.setenv("TRACKDESK_RATE_LIMIT", "0")
    monkeypatch.setenv("TRACKDESK_DURABILITY", "fsync")
    monkeypatch.setenv("TENANT", "other")
    settings = load_settings()
    assert (settings.tenant, settings.rate_limit, settings.durability) == ("acme", 0, Durability.FSYNC)


def test_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDESK_TENANT", "")
    monkeypatch.setenv("TRACKDESK_RATE_LIMIT", "")
    assert (load_settings().tenant, load_settings().rate_limit) == (None, 5)


def test_an_option_goes_before_a_variable_and_none_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDESK_TENANT", "acme")
    assert load_settings(tenant="other").tenant == "other"
    assert load_settings(tenant=None).tenant == "acme"


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("s3cret\n", "utf-8")
    monkeypatch.setenv("TRACKDESK_API_KEY_FILE", str(secret))
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "s3cret"
    monkeypatch.setenv("TRACKDESK_API_KEY", "from the variable")
    settings = load_settings()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "from the variable"


def test_every_setting_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://:pw@db/1", "utf-8")
    monkeypatch.setenv("TRACKDESK_REDIS_URL_FILE", str(file))
    assert load_settings().redis_url.get_secret_value() == "redis://:pw@db/1"


def test_a_file_that_cannot_be_read_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = refusal(monkeypatch, API_KEY_FILE=str(tmp_path / "none"))
    assert said.startswith("TRACKDESK_API_KEY_FILE names a file that cannot be read: ")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(monkeypatch, API_KEY_FILE=str(tmp_path / "binary"))


def test_secrets_are_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKDESK_API_KEY", "s3cret")
    monkeypatch.setenv("TRACKDESK_REDIS_URL", "redis://:s3cret@db/0")
    assert "s3cret" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_LIMIT", "-1"),
        ("RATE_LIMIT", "fast"),
        ("RATE_LIMIT", "nan"),
        ("RATE_LIMIT", "inf"),
        ("CONCURRENCY", "0"),
        ("CONCURRENCY", "1.5"),
        ("CONCURRENCY", "5000"),
        ("TIMEOUT_S", "0"),
        ("TIMEOUT_S", "301"),
        ("TIMEOUT_S", "nan"),
        ("LEASE_S", "-1"),
        ("MAX_ATTEMPTS", "0"),
        ("HORIZON_S", "0"),
        ("HORIZON_S", "nan"),
        ("HORIZON_S", "inf"),
        ("BACKOFF_BASE_S", "0"),
        ("BACKOFF_CAP_S", "86401"),
        ("DEDUPE_WINDOW_S", "59"),
        ("DURABILITY", "forever"),
        ("METHOD", "PUT"),
        ("METRICS_PORT", "65536"),
        ("CONSOLE_PORT", "0"),
        ("LOG_LEVEL", "loud"),
        ("TRUST_ENV", "perhaps"),
        ("TENANT", "Acme"),
        ("NAMESPACE", "a b"),
        ("BASE_URL", "ftp://x"),
        ("BASE_URL", "acme.trackdesk.com"),
        ("REDIS_URL", "localhost:6379"),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    said = refusal(monkeypatch, **{name: value}).lower()
    assert f"trackdesk_{name}:".lower() in said or f"{name} must".lower() in said, said


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, MAX_ATTEMPTS="0", METHOD="PUT", REDIS_URL="db")
    assert said.count("; ") == 2
    assert "TRACKDESK_REDIS_URL: must start with redis://, rediss://, unix://, sentinel:// or sentinels://" in said


def test_a_refused_value_that_may_be_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "s3cret" not in refusal(monkeypatch, REDIS_URL="db:s3cret")


def test_a_lease_that_may_end_under_a_request_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, TIMEOUT_S="30", LEASE_S="31")
    assert said == (
        "LEASE_S (31) must be more than a second longer than TIMEOUT_S (30): "
        "a lease that ends under a request makes a second worker send the same sale"
    )
    monkeypatch.setenv("TRACKDESK_LEASE_S", "31.5")
    assert load_settings().lease_ms == 31_500


def test_without_a_lease_it_is_the_timeout_and_a_margin() -> None:
    assert load_settings(timeout_s=10).lease_ms == (10 + LEASE_MARGIN_S) * 1000


def test_a_backoff_cap_below_its_base_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "BACKOFF_CAP_S must not be below BACKOFF_BASE_S" in refusal(
        monkeypatch, BACKOFF_BASE_S="60", BACKOFF_CAP_S="30"
    )


@pytest.mark.parametrize("url", ["https://{tenant}.trackdesk.com/", "http://127.0.0.1:8080"])
def test_a_base_url_loses_its_last_slash(url: str) -> None:
    assert load_settings(base_url=url).base_url == url.rstrip("/")


def test_every_setting_says_what_it_is() -> None:
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_class_shares_are_three_numbers_and_not_all_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().shares == Shares(7, 2, 1)
    assert load_settings(class_shares="0:0:12").shares == Shares(0, 0, 12)
    for wrong in ("7:2", "7:2:1:1", "a:b:c", "-1:2:3", "100:1:1", "7,2,1", "1.5:1:1"):
        assert "TRACKDESK_CLASS_SHARES" in refusal(monkeypatch, CLASS_SHARES=wrong)
    assert "CLASS_SHARES must not be all zero" in refusal(monkeypatch, CLASS_SHARES="0:0:0")


def test_the_breaker_is_set_in_seconds_and_kept_in_ms() -> None:
    assert load_settings().breaker == Breaker(failures=5, first_probe_ms=5_000, last_probe_ms=300_000)
    own = load_settings(
        breaker_failures=50,
        breaker_ratio=0.5,
        breaker_volume=30,
        breaker_window_s=4,
        breaker_probe_s=0.25,
        breaker_probe_cap_s=2,
    )
    assert own.breaker == Breaker(50, 0.5, 30, 4_000, first_probe_ms=250, last_probe_ms=2_000)


def test_the_longest_pause_between_probes_is_never_below_the_first() -> None:
    breaker = load_settings(breaker_probe_s=60, breaker_probe_cap_s=10).breaker
    assert (breaker.first_probe_ms, breaker.last_probe_ms) == (60_000, 60_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BREAKER_FAILURES", "0"),
        ("BREAKER_RATIO", "0"),
        ("BREAKER_VOLUME", "1"),
        ("BREAKER_WINDOW_S", "0"),
        ("BREAKER_PROBE_S", "0.0001"),
        ("BREAKER_PROBE_CAP_S", "-1"),
        ("BURST", "0"),
        ("METER", "hour"),
        ("TENANT_CONCURRENCY", "0"),
        ("CREATED_AT", "soon"),
        ("IDENTITY", "cid"),
    ],
)
def test_what_makes_no_budget_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert f"TRACKDESK_{name}" in refusal(monkeypatch, **{name: value})


def test_policies_and_the_tenants_file_are_read_from_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (load_settings().config, load_settings().created_at) == (None, CreatedAt.LATE)
    monkeypatch.setenv("TRACKDESK_CONFIG", str(tmp_path / "tenants.toml"))
    monkeypatch.setenv("TRACKDESK_CREATED_AT", "never")
    monkeypatch.setenv("TRACKDESK_METER", "minute")
    settings = load_settings()
    assert settings.config == tmp_path / "tenants.toml"
    assert (settings.created_at, settings.meter) == (CreatedAt.NEVER, "minute")
