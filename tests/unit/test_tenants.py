"""Settings of single tenants: over the environment's, from a TOML file that is checked as a whole and read again."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.duties import Clock
from trackdesk_producer.contract.record import JobClass
from trackdesk_worker.config.settings import PREFIX, SettingsInvalid, load_settings
from trackdesk_worker.config.tenants import MAX_FILE_BYTES, RESTED_AFTER_LOSS_S, RESTED_S, Tenants
from trackdesk_worker.domain.limits import Limits, Shares
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.store.ledger import Book
from trackdesk_worker.store.tenant_record import TenantRecord
from trackdesk_worker.store.tenant_snapshot import ReadyQueue, TenantSnapshot
from trackdesk_worker.trackdesk.created_at import CreatedAt

Load = Callable[..., Tenants]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenants.toml"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def load(file: Path, clock: Clock) -> Load:
    """Load tenants from a text, over some settings of the environment."""

    def load(text: str, **environment: object) -> Tenants:
        file.write_text(text, "utf-8")
        return Tenants(load_settings(config=file, **environment), clock=clock)

    return load


def refusal(load: Load, text: str, **environment: object) -> str:
    with pytest.raises(SettingsInvalid) as caught:
        load(text, **environment)
    said = str(caught.value)
    assert "\n" not in said
    return said


def change(file: Path, text: str) -> None:
    """Write other content, with another time of change however coarse the file system's clock is."""
    file.write_text(text, "utf-8")
    later = file.stat().st_mtime_ns + 1_000_000_000
    os.utime(file, ns=(later, later))


def test_without_a_file_every_tenant_has_the_environments_settings() -> None:
    tenants = Tenants(load_settings(rate_limit=7, method="GET", api_key="k"))
    assert tenants.own == {}
    assert tenants.get("acme") is tenants.default
    assert tenants.default.limits == Limits(rate_per_s=7, burst=2, cap=1024)
    assert (tenants.default.endpoint.method, tenants.default.endpoint.api_key) == ("GET", "k")
    assert not tenants.refresh()


def test_an_empty_file_is_no_mistake(load: Load) -> None:
    assert load("").own == {}


def test_every_setting_of_a_table_goes_before_the_environments(load: Load, tmp_path: Path) -> None:
    text = """
        [acme]
        rate_limit = 20
        burst = 3
        concurrency = 40
        method = "GET"
        base_url = "https://sales.example.com"
        api_key = "secret"
        identity = "type_and_external_id"
        max_attempts = 5
        horizon_s = 3600
        backoff_base_s = 1.5
        backoff_cap_s = 60
        created_at = "always"
    """
    tenants = load(text)
    acme = tenants.get("acme")
    assert acme.limits == Limits(rate_per_s=20, burst=3, cap=40)
    assert (acme.endpoint.method, acme.endpoint.base_url) == ("GET", "https://sales.example.com")
    assert acme.endpoint.api_key == "secret"
    assert acme.identity_by_type
    policy = acme.policy
    assert (policy.max_attempts, policy.horizon_s) == (5, 3600)
    assert (policy.backoff_base_s, policy.backoff_cap_s) == (1.5, 60)
    assert acme.created_at is CreatedAt.ALWAYS
    assert not policy.metered_by_minute
    assert tenants.own == {"acme": acme}
    assert tenants.get("other") is tenants.default


def test_what_a_table_leaves_out_is_the_environments(load: Load) -> None:
    tenants = load(
        "[acme]\nburst = 9",
        rate_limit=11,
        tenant_concurrency=77,
        api_key="shared",
        created_at="never",
        identity="type_and_external_id",
        max_attempts=3,
        base_url="http://{tenant}.example.com",
    )
    acme = tenants.get("acme")
    assert acme.limits == Limits(rate_per_s=11, burst=9, cap=77)
    assert (acme.endpoint.api_key, acme.endpoint.base_url) == ("shared", "http://{tenant}.example.com")
    assert (acme.created_at, acme.identity_by_type, acme.policy.max_attempts) == (CreatedAt.NEVER, True, 3)
    assert tenants.default.limits.burst == 2


def test_a_rate_of_nothing_is_no_limit_and_not_an_absent_one(load: Load) -> None:
    assert load("[acme]\nrate_limit = 0").get("acme").limits.rate_us == 0


def test_a_meter_by_the_minute_paces_two_percent_below_and_waits_out_the_minute(load: Load) -> None:
    tenants = load('[acme]\nmeter = "minute"\nrate_limit = 5\n[fast]\nmeter = "second"', meter="minute")
    assert tenants.get("acme").limits.rate_per_s == pytest.approx(4.9)
    assert tenants.get("acme").policy.metered_by_minute
    assert tenants.get("fast").limits.rate_per_s == 5
    assert not tenants.get("fast").policy.metered_by_minute
    assert tenants.default.policy.metered_by_minute


def test_a_key_may_come_from_a_file_which_goes_before_the_environments_key(load: Load, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    tenants = load(f'[acme]\napi_key_file = "{tmp_path / "key"}"', api_key="shared")
    assert tenants.get("acme").endpoint.api_key == "from-file"
    assert tenants.get("other").endpoint.api_key == "shared"


def test_a_key_shows_neither_in_settings_nor_in_a_refusal(load: Load) -> None:
    tenants = load('[acme]\napi_key = "hush-hush"')
    assert "hush-hush" not in repr(tenants.get("acme"))
    assert "hush-hush" not in refusal(load, '[acme]\napi_key = "hush-hush"\nburst = "x"')
    assert "hush-hush" not in refusal(load, '[acme]\napi_key = "hush-hush\\n"')


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[acme]\nrate = 5", ["[acme]", "rate is not a setting", "rate_limit"]),
        ('[acme]\nrate_limit = "fast"', ["[acme]", "rate_limit"]),
        ("[acme]\nrate_limit = -1", ["[acme]", "rate_limit"]),
        ("[acme]\nrate_limit = 100001", ["rate_limit"]),
        ("[acme]\nrate_limit = nan", ["rate_limit"]),
        ("[acme]\nrate_limit = inf", ["rate_limit"]),
        ("[acme]\nburst = 0", ["burst"]),
        ("[acme]\nburst = 1.5", ["burst"]),
        ("[acme]\nconcurrency = 0", ["concurrency"]),
        ('[acme]\nmethod = "PUT"', ["method"]),
        ('[acme]\nmeter = "hour"', ["meter"]),
        ('[acme]\ncreated_at = "soon"', ["created_at"]),
        ('[acme]\nidentity = "cid"', ["identity"]),
        ("[acme]\nmax_attempts = 0", ["max_attempts"]),
        ("[acme]\nhorizon_s = 0", ["horizon_s"]),
        ("[acme]\nhorizon_s = inf", ["horizon_s"]),
        ("[acme]\nhorizon_s = nan", ["horizon_s"]),
        ("[acme]\nbackoff_base_s = 30\nbackoff_cap_s = 20", ["[acme]", "backoff_cap_s must not be below"]),
        ("[acme]\nbackoff_cap_s = 1", ["[acme]", "backoff_cap_s must not be below"]),
        ("[acme]\napi_key = 5", ["api_key"]),
        ('[acme]\nbase_url = "ftp://example.com"', ["[acme]", "base URL"]),
        ('[acme]\nbase_url = "https://"', ["[acme]", "base URL"]),
        ('[acme]\nbase_url = "https://u:p@example.com"', ["[acme]", "base URL"]),
        ("[acme.inner]\nburst = 3", ["[acme]", "inner is not a setting"]),
        ("rate_limit = 5", ["'rate_limit'", "outside a table"]),
        ("[[acme]]\nburst = 3", ["'acme'", "outside a table"]),
        ("[acme]\nburst = 1\n[acme]\nburst = 2", ["not TOML"]),
        ("[acme", ["not TOML"]),
        ('["under_score"]\nburst = 3', ["[under_score]", "tenant"]),
        ('["a.b"]\nburst = 3', ["[a.b]", "tenant"]),
        ('[""]\nburst = 3', ["tenant"]),
        ("[UPPER]\nburst = 3", ["[UPPER]"]),
    ],
)
def test_a_wrong_file_is_refused_with_table_key_and_rule(load: Load, file: Path, text: str, parts: list[str]) -> None:
    said = refusal(load, text)
    assert said.startswith("TRACKDESK_CONFIG: ")
    for part in [str(file), *parts]:
        assert part in said, said


def test_one_wrong_table_refuses_the_whole_file(load: Load) -> None:
    assert "[b]" in refusal(load, "[a]\nburst = 3\n[b]\nburst = 0\n[c]\nburst = 3")


def test_two_keys_are_one_too_many(load: Load, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    said = refusal(load, f'[acme]\napi_key = "k"\napi_key_file = "{tmp_path / "key"}"')
    assert "[acme]" in said
    assert "api_key or api_key_file, not both" in said


def test_a_key_file_that_is_not_there_or_is_no_text_is_refused(load: Load, tmp_path: Path) -> None:
    text = f'[acme]\napi_key_file = "{tmp_path / "key"}"'
    assert "api_key_file cannot be read" in refusal(load, text)
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert "api_key_file cannot be read" in refusal(load, text)
    (tmp_path / "key").write_text("two\nlines")
    assert "API key" in refusal(load, text)


def test_an_empty_key_file_is_a_slip_and_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    assert "api_key_file" in refusal(load, f'[acme]\napi_key_file = "{tmp_path / "key"}"')


def test_a_file_that_is_missing_too_large_or_no_text_is_refused(file: Path) -> None:
    settings = load_settings(config=file)
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        Tenants(settings)
    file.write_bytes(b"[acme]\n# \xff")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        Tenants(settings)
    file.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SettingsInvalid, match=f"larger than {MAX_FILE_BYTES} bytes"):
        Tenants(settings)
    file.write_bytes(b"#" * MAX_FILE_BYTES)
    assert Tenants(settings).own == {}


def test_an_environment_that_makes_no_address_is_refused_too(file: Path) -> None:
    with pytest.raises(SettingsInvalid, match="the environment: the base URL"):
        Tenants(load_settings(base_url="https://user@example.com"))


def test_a_thousand_tables_are_read(load: Load) -> None:
    tenants = load("\n".join(f"[t{number}]\nrate_limit = {number}" for number in range(1_000)))
    assert tenants.get("t999").limits.rate_per_s == 999


def refreshed(tenants: Tenants, clock: Clock, rest_s: float = RESTED_AFTER_LOSS_S) -> bool:
    """Look at the files now and again after they rested."""
    assert not tenants.refresh(), "a file that has just changed may still be being written"
    clock.move(rest_s)
    return tenants.refresh()


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(load: Load, file: Path, clock: Clock) -> None:
    tenants = load("[acme]\nburst = 3\n[gone]\nburst = 4")
    assert not refreshed(tenants, clock)
    change(file, "[acme]\nburst = 5\n[new]\nburst = 6")
    assert refreshed(tenants, clock)
    assert {name: own.limits.burst for name, own in tenants.own.items()} == {"acme": 5, "new": 6}
    assert tenants.get("gone") is tenants.default
    assert not refreshed(tenants, clock)


def test_a_change_for_the_worse_keeps_the_settings_before_and_is_reported_once(
    load: Load, file: Path, clock: Clock
) -> None:
    tenants = load("[acme]\nburst = 3")
    change(file, "[acme]\nburst = 0")
    with pytest.raises(SettingsInvalid, match="burst"):
        refreshed(tenants, clock)
    assert tenants.get("acme").limits.burst == 3
    assert "burst" in (tenants.refused or "")
    assert not refreshed(tenants, clock)
    change(file, "[acme]\nburst = 4")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").limits.burst == 4
    assert tenants.refused is None


def test_a_file_that_vanishes_keeps_the_settings_before_and_is_reported_once(
    load: Load, file: Path, clock: Clock
) -> None:
    tenants = load("[acme]\nburst = 3")
    file.unlink()
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        refreshed(tenants, clock)
    assert not refreshed(tenants, clock)
    assert tenants.get("acme").limits.burst == 3
    file.write_text("[acme]\nburst = 8")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").limits.burst == 8


WHOLE = """[acme]
base_url = "https://one.example"
rate_limit = 20
[bert]
base_url = "https://two.example"
api_key = "k"
"""


def test_no_part_of_a_file_that_is_rewritten_in_place_comes_into_force(load: Load, file: Path, clock: Clock) -> None:
    """The same content again, cut at every length, each cut seen several times over some seconds."""
    tenants = load(WHOLE)
    before = dict(tenants.own)
    for length in range(len(WHOLE)):
        change(file, WHOLE[:length])
        for _ in range(4):
            with contextlib.suppress(SettingsInvalid):
                tenants.refresh()
            clock.move(RESTED_AFTER_LOSS_S / 5)
        assert tenants.own == before, WHOLE[:length]


def test_a_longer_file_comes_into_force_only_when_it_has_rested(load: Load, file: Path, clock: Clock) -> None:
    tenants = load("[acme]\nburst = 3")
    longer = '[acme]\nburst = 30\nbase_url = "https://one.example"'
    for text in ("", longer[:20], longer[:-5], longer):
        change(file, text)
        assert not tenants.refresh()
        clock.move(RESTED_S / 2)
        assert not tenants.refresh()
        assert tenants.get("acme").limits.burst == 3
    clock.move(RESTED_S / 2)
    assert tenants.refresh()
    assert tenants.get("acme").endpoint.base_url == "https://one.example"


def test_what_takes_a_table_or_a_key_away_rests_longer(load: Load, file: Path, clock: Clock) -> None:
    tenants = load(WHOLE)
    change(file, "# bert has left us, and what remains is longer than before\n" * 3 + "[acme]\nrate_limit = 20\n")
    assert not refreshed(tenants, clock, RESTED_S)
    assert tenants.get("bert").endpoint.base_url == "https://two.example"
    clock.move(RESTED_AFTER_LOSS_S)
    assert tenants.refresh()
    assert tenants.get("bert") is tenants.default


def test_an_empty_file_never_takes_tables_away(load: Load, file: Path, clock: Clock) -> None:
    tenants = load(WHOLE)
    change(file, "")
    with pytest.raises(SettingsInvalid, match=r"is empty, and 2 tables are in force; .* leave a comment"):
        refreshed(tenants, clock)
    assert len(tenants.own) == 2
    change(file, "# none\n")
    assert refreshed(tenants, clock)
    assert tenants.own == {}


def test_a_changed_key_file_is_read_again_and_a_wrong_one_is_refused(
    load: Load, file: Path, clock: Clock, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("first")
    tenants = load(f'[acme]\napi_key_file = "{key}"')
    change(key, "second")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == "second"
    change(key, "")
    with pytest.raises(SettingsInvalid, match="api_key_file is empty"):
        refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == "second"
    change(key, "third")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == "third"


@pytest.mark.parametrize("table", ["", "[acme]\nburst = 3"], ids=["without tables", "with a table without a key"])
def test_a_changed_key_file_of_the_environment_is_read_again_and_an_empty_one_is_refused(
    load: Load, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    key = tmp_path / "key"
    key.write_text("first")
    monkeypatch.setenv("TRACKDESK_API_KEY_FILE", str(key))
    tenants = load(table)
    assert tenants.get("acme").endpoint.api_key == tenants.default.endpoint.api_key == "first"
    change(key, "second")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == tenants.default.endpoint.api_key == "second"
    change(key, "")
    with pytest.raises(SettingsInvalid, match="TRACKDESK_API_KEY_FILE names a file that is empty"):
        refreshed(tenants, clock)
    key.unlink()
    with pytest.raises(SettingsInvalid, match="TRACKDESK_API_KEY_FILE names a file that cannot be read"):
        refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == "second"
    key.write_text("third")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == "third"


def test_a_key_file_of_the_environment_is_watched_without_a_tenants_file(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("first")
    monkeypatch.setenv("TRACKDESK_API_KEY_FILE", str(key))
    tenants = Tenants(load_settings(), clock=clock)
    change(key, "second")
    assert refreshed(tenants, clock)
    assert tenants.default.endpoint.api_key == "second"


def test_a_key_file_that_a_refused_file_names_is_watched_too(
    load: Load, file: Path, clock: Clock, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    tenants = load("[acme]\nburst = 3")
    change(file, f'[acme]\nburst = 3\napi_key_file = "{key}"')
    with pytest.raises(SettingsInvalid, match="api_key_file cannot be read"):
        refreshed(tenants, clock)
    key.write_text("k")
    assert refreshed(tenants, clock)
    assert tenants.get("acme").endpoint.api_key == "k"


@pytest.mark.parametrize(
    "table",
    [
        'base_url = "https://xn--a.trackdesk.com"',
        'base_url = "https://1.2.3.4.5"',
        'base_url = "https://exa mple.com"',
        'base_url = "https://[::1"',
        'api_key = "a\\u007f"',
        "rate_limit = 0.000001",
        "rate_limit = nan",
        "burst = " + "[" * 2000 + "]" * 2000,
    ],
)
def test_what_the_client_would_refuse_is_refused_with_the_whole_file(load: Load, table: str) -> None:
    said = refusal(load, f"[good]\nburst = 3\n[acme]\n{table}\n")
    assert "TRACKDESK_CONFIG" in said
    assert "\x7f" not in said


def test_a_key_file_that_is_no_plain_file_is_refused_instead_of_read_for_ever(load: Load, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "no plain file" in refusal(load, f'[acme]\napi_key_file = "{tmp_path / "pipe"}"')


def test_a_worker_waits_for_a_file_that_was_written_just_now(file: Path) -> None:
    file.write_text("[acme]\nburst = 3")
    began = time.monotonic()
    Tenants(load_settings(config=file), written_before_s=0.3)
    assert time.monotonic() - began > 0.2
    began = time.monotonic()
    Tenants(load_settings(config=file), written_before_s=0.3)
    assert time.monotonic() - began < 0.2


def test_a_file_put_in_the_place_of_the_old_one_is_seen(load: Load, file: Path, clock: Clock, tmp_path: Path) -> None:
    """As editors, configuration management and Kubernetes do it: same size, same time, another file."""
    tenants = load("[acme]\nburst = 3")
    stat = file.stat()
    other = tmp_path / "other"
    other.write_text("[acme]\nburst = 4")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)
    assert refreshed(tenants, clock)
    assert tenants.get("acme").limits.burst == 4


def test_a_forecast_follows_the_file_while_its_process_runs(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text("[acme]\nhorizon_s = 7200\n", "utf-8")
    clock = Clock()
    forecaster = Forecaster(Tenants(load_settings(config=file), clock=clock), Shares())
    hour_ago_ms = 10_000_000 - 3_600_000
    queue = ReadyQueue(100, hour_ago_ms * 1000, 100, 100, ((0, hour_ago_ms),))
    tenant_snapshot = TenantSnapshot("acme", Book(Counter(ready=100)), TenantRecord(), {JobClass.LIVE: queue})
    assert forecaster(tenant_snapshot, 10_000_000).late == 0

    file.write_text("[acme]\nhorizon_s = 600\n", "utf-8")
    forecaster(tenant_snapshot, 10_000_000)
    clock.move(RESTED_AFTER_LOSS_S)
    assert forecaster(tenant_snapshot, 10_000_000).late == 100
    file.write_text("[acme]\nhorizon_s = soon\n", "utf-8")
    forecaster(tenant_snapshot, 10_000_000)
    clock.move(RESTED_AFTER_LOSS_S)
    assert forecaster(tenant_snapshot, 10_000_000).late == 100, "a wrong file leaves what was in force"
