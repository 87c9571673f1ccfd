"""Limits of single tenants on their way from the file to the store that all processes share."""

from pathlib import Path

import pytest
import redis

from tests.support.duties import Clock, Duties
from tests.support.store import START_MS, Store
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.config.tenants import RESTED_AFTER_LOSS_S, Tenants
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.maintenance.duty import Turn
from trackdesk_worker.maintenance.refresh_tenants import RefreshTenants

LIMIT_FIELDS = {"rate_us", "burst", "cap"}


class Refreshing:
    """The duty, over a file, at a time that the test moves."""

    def __init__(self, store: Store, file: Path, text: str) -> None:
        file.write_text(text)
        self._file = file
        self._clock = Clock()
        self._duties = Duties(store)
        tenants = Tenants(load_settings(config=file), clock=self._clock)
        self._duty = RefreshTenants(self._duties.context, tenants)

    def run(self) -> None:
        self._duty.run_once(Turn(1))

    def change(self, text: str) -> None:
        """Rewrite the file and let it rest."""
        self._file.write_text(text)
        self.run()
        self._clock.move(RESTED_AFTER_LOSS_S)
        self.run()

    def logged(self, event: str) -> int:
        return len(self._duties.events(event))

    @property
    def refused(self) -> float:
        return self._duties.counted("trackdesk_tenants_file_refused")


@pytest.fixture
def store(client: redis.Redis, keys: Keys) -> Store:
    return Store(client, keys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenants.toml"


def limits(store: Store, tenant: str) -> dict[str, str]:
    return {name: value for name, value in store.tenant(tenant).items() if name in LIMIT_FIELDS}


def test_a_started_worker_writes_the_limits_even_of_tenants_without_a_job(store: Store, file: Path) -> None:
    duty = Refreshing(store, file, "[acme]\nrate_limit = 20\nburst = 3\nconcurrency = 7")
    duty.run()
    assert duty.logged("tenants.reloaded") == 0
    assert limits(store, "acme") == {"rate_us": "50000", "burst": "3", "cap": "7"}


def test_a_started_worker_takes_away_what_an_older_file_left(store: Store, file: Path) -> None:
    store.enqueue("acme/1", "other/1")
    for tenant in ("acme", "other"):
        store.client.hset(store.keys.tenant(tenant), mapping={"rate_us": 1, "burst": 1, "cap": 1, "streak": 3})
    Refreshing(store, file, "[acme]\nrate_limit = 0").run()
    assert limits(store, "other") == {}
    assert limits(store, "acme") == {"rate_us": "0", "burst": "2", "cap": "1024"}
    assert store.tenant("other")["streak"] == store.tenant("acme")["streak"] == "3", "nothing else is touched"


def test_a_changed_file_is_in_force_at_the_next_claim(store: Store, file: Path) -> None:
    store.enqueue(*(f"acme/{n}" for n in range(20)))
    duty = Refreshing(store, file, "[acme]\nrate_limit = 1\nburst = 1")
    duty.run()
    assert len(store.claim().jobs) == 1
    duty.change("[acme]\nrate_limit = 10\nburst = 4")
    duty.run()
    assert duty.logged("tenants.reloaded") == 1
    store.now_ms = START_MS + 5_000
    assert len(store.claim().jobs) == 4
    duty.change("# none")
    assert limits(store, "acme") == {}
    assert len(store.claim(limits=Limits(rate_per_s=0)).jobs) == 15


def test_a_wrong_file_leaves_the_limits_as_they_are(store: Store, file: Path) -> None:
    duty = Refreshing(store, file, "[acme]\nburst = 4")
    duty.run()
    before = limits(store, "acme")
    duty.change("[acme]\nburst = 0")
    duty.run()
    assert (duty.logged("tenants.refused"), duty.refused) == (1, 1)
    assert limits(store, "acme") == before
    duty.change("[acme]\nburst = 9")
    assert (limits(store, "acme")["burst"], duty.refused) == ("9", 0)


def test_limits_that_could_not_be_written_are_written_when_the_store_is_back(
    store: Store, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    duty = Refreshing(store, file, "[acme]\nburst = 4")
    duty.run()
    with monkeypatch.context() as away:
        away.setattr(store.client, "smembers", _away)
        with pytest.raises(redis.ConnectionError):
            duty.change("[acme]\nburst = 5")
    duty.run()
    assert limits(store, "acme")["burst"] == "5"


def test_a_store_that_was_restored_gets_the_limits_of_the_file_again(
    own_server: EmbeddedServer, keys: Keys, file: Path
) -> None:
    with redis.Redis(port=own_server.port) as client:
        store = Store(client, keys)
        duty = Refreshing(store, file, "[acme]\nrate_limit = 5")
        duty.run()
        client.hset(keys.tenant("acme"), "rate_us", 50_000)  # as a backup of the time before has it
        own_server.stop()
        own_server.start()
        duty.run()
        assert limits(store, "acme")["rate_us"] == "200000"


def _away(*_: object) -> None:
    raise redis.ConnectionError("away")
