"""Limits of single tenants on their way from the file to the store that all processes share."""

import os
from pathlib import Path

import pytest
import redis

from tests.support.store import START_MS, Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.maintenance import Maintenance
from trackdesk_worker.settings import SettingsInvalid, load_settings
from trackdesk_worker.store.jobs import Limits
from trackdesk_worker.tenants import Tenants

LIMIT_FIELDS = {"rate_us", "burst", "cap"}


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenants.toml"


def maintenance(store: Store, file: Path, text: str) -> Maintenance:
    file.write_text(text)
    tenants = Tenants(load_settings(config=file))
    return Maintenance(store.client, store.jobs, tenants=tenants, worker_id="w", max_attempts=20)


def change(file: Path, text: str) -> None:
    file.write_text(text)
    later = file.stat().st_mtime_ns + 1_000_000_000
    os.utime(file, ns=(later, later))


def limits(store: Store, tenant: str) -> dict[str, str]:
    return {name: value for name, value in store.tenant(tenant).items() if name in LIMIT_FIELDS}


def test_a_started_worker_writes_the_limits_even_of_tenants_without_a_job(store: Store, file: Path) -> None:
    assert not maintenance(store, file, "[acme]\nrate_limit = 20\nburst = 3\nconcurrency = 7").refresh_tenants()
    assert limits(store, "acme") == {"rate_us": "50000", "burst": "3", "cap": "7"}


def test_a_started_worker_takes_away_what_an_older_file_left(store: Store, file: Path) -> None:
    store.enqueue("acme/1", "other/1")
    for tenant in ("acme", "other"):
        store.client.hset(store.keys.tenant(tenant), mapping={"rate_us": 1, "burst": 1, "cap": 1, "streak": 3})
    maintenance(store, file, "[acme]\nrate_limit = 0").refresh_tenants()
    assert limits(store, "other") == {}
    assert limits(store, "acme") == {"rate_us": "0", "burst": "2", "cap": "1024"}
    assert store.tenant("other")["streak"] == store.tenant("acme")["streak"] == "3", "nothing else is touched"


def test_a_changed_file_is_in_force_at_the_next_claim(store: Store, file: Path) -> None:
    store.enqueue(*(f"acme/{n}" for n in range(20)))
    duty = maintenance(store, file, "[acme]\nrate_limit = 1\nburst = 1")
    duty.refresh_tenants()
    assert len(store.claim().jobs) == 1
    change(file, "[acme]\nrate_limit = 10\nburst = 4")
    assert duty.refresh_tenants()
    assert not duty.refresh_tenants()
    store.now_ms = START_MS + 5_000
    assert len(store.claim().jobs) == 4
    change(file, "")
    assert duty.refresh_tenants()
    assert limits(store, "acme") == {}
    assert len(store.claim(limits=Limits(rate_per_s=0)).jobs) == 15


def test_a_wrong_file_leaves_the_limits_as_they_are(store: Store, file: Path) -> None:
    duty = maintenance(store, file, "[acme]\nburst = 4")
    duty.refresh_tenants()
    before = limits(store, "acme")
    change(file, "[acme]\nburst = 0")
    with pytest.raises(SettingsInvalid, match="burst"):
        duty.refresh_tenants()
    assert not duty.refresh_tenants()
    assert limits(store, "acme") == before


def test_limits_that_could_not_be_written_are_written_when_the_store_is_back(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duty = maintenance(store, file, "[acme]\nburst = 4")
    duty.refresh_tenants()
    change(file, "[acme]\nburst = 5")
    with monkeypatch.context() as away:
        away.setattr(store.client, "smembers", _away)
        with pytest.raises(redis.ConnectionError):
            duty.refresh_tenants()
    duty.refresh_tenants()
    assert limits(store, "acme")["burst"] == "5"


def _away(*_: object) -> None:
    raise redis.ConnectionError("away")
