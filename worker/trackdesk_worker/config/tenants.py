"""Settings of single tenants: the environment's values, and over them a TOML file with a table per tenant.

    [my-shop]
    rate_limit = 20
    api_key_file = "/run/secrets/my-shop"

The file, the key files it names and that of ``TRACKDESK_API_KEY_FILE`` are watched while the worker runs. A change
applies once the files have rested for `RESTED_S`. A change that takes something away (a table, a key of one, bytes at
the end) may be a file that is being rewritten in place, and would send sales to the default host: it applies after
`RESTED_AFTER_LOSS_S`. What became wrong is refused as a whole and reported; the settings before it stay in force, so
that a slip stops no deliveries.
"""

import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from trackdesk_producer import ConversionInvalid
from trackdesk_producer.conversion.rules import check_tenant
from trackdesk_worker.config.settings import Settings, SettingsInvalid, api_key_file
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint, EndpointInvalid, PreparedEndpoint

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_KEY_BYTES = 8 * 1024
RESTED_S = 1.0
RESTED_AFTER_LOSS_S = 10.0
SLOWEST_RATE = 1 / 86_400
"""Requests per second: one a day. What is slower is a slip of the hand."""
MINUTE_SHARE = 0.98
"""Under a meter that counts by the minute, the pace stays this far below the limit: a burst and the two clocks'
difference must not add up to one request too many."""


class _Table(BaseModel):
    """One tenant's table; what is absent is the environment's."""

    model_config = ConfigDict(extra="forbid", strict=False)

    rate_limit: float | None = Field(None, ge=0, le=100_000)
    burst: int | None = Field(None, ge=1, le=10_000)
    meter: Literal["second", "minute"] | None = None
    concurrency: int | None = Field(None, ge=1, le=65_536)
    method: Literal["POST", "GET"] | None = None
    base_url: str | None = None
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    identity: Literal["external_id", "type_and_external_id"] | None = None
    max_attempts: int | None = Field(None, ge=1, le=1000)
    horizon_s: float | None = Field(None, gt=0, le=3650 * 86_400)
    backoff_base_s: float | None = Field(None, gt=0, le=3600)
    backoff_cap_s: float | None = Field(None, gt=0, le=86_400)
    created_at: CreatedAt | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("give api_key or api_key_file, not both")
        return self


TABLE_KEYS = tuple(_Table.model_fields)
"""What a tenant's table may set."""


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """Everything that may differ from tenant to tenant, complete."""

    limits: Limits
    endpoint: Endpoint
    policy: Policy
    created_at: CreatedAt
    identity_by_type: bool


Stamp: TypeAlias = tuple[int, int, int]
"""What of a file changes when its content does: time, size, inode."""


@dataclass(frozen=True, slots=True)
class _Tables:
    """What one reading of the files brought."""

    default: TenantSettings
    own: Mapping[str, TenantSettings]
    keys: Mapping[str, frozenset[str]]
    """Tenant → the keys of its table."""
    size: int
    files: frozenset[Path]
    """The files that the tables name."""

    def lost(self, before: "_Tables") -> bool:
        """Return whether something of `before` is missing."""
        return self.size < before.size or any(keys - self.keys.get(name, set()) for name, keys in before.keys.items())


class Tenants:
    """The settings of every tenant. Thread-safe; `refresh` reads changed files again."""

    def __init__(
        self, settings: Settings, *, written_before_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file.

        Args:
            written_before_s: wait until the file is so old: it may be being written just now.

        Raises:
            SettingsInvalid: with one sentence that names table, key and rule.
        """
        self._settings = settings
        self._path = settings.config
        self._clock = clock
        self._lock = threading.Lock()
        self._key_file = api_key_file()
        self._wait_until_written(written_before_s)
        self._watched: frozenset[Path] = frozenset()
        self._tables = self._read()
        self._watched = self._tables.files
        self._decided = self._seen = self._stamps()
        self._seen_at = clock()
        self.refused: str | None = None
        """Why the files as they are now are not in force; None if they are, or are still to be looked at."""

    def get(self, tenant: str) -> TenantSettings:
        """Return one tenant's settings."""
        return self._tables.own.get(tenant, self._tables.default)

    @property
    def default(self) -> TenantSettings:
        """What holds for tenants without a table."""
        return self._tables.default

    @property
    def own(self) -> Mapping[str, TenantSettings]:
        """The tenants that have a table."""
        return self._tables.own

    def refresh(self) -> bool:
        """Read the files again if they changed and rested since; return whether new settings are in force.

        Raises:
            SettingsInvalid: when a changed file is wrong, once per change; the settings before stay.
        """
        with self._lock:
            stamps, now = self._stamps(), self._clock()
            if stamps != self._seen:
                self._seen, self._seen_at = stamps, now
            if stamps == self._decided or now - self._seen_at < RESTED_S:
                return False
            try:
                tables = self._read()
                if tables.size == 0 and self._tables.own:
                    raise SettingsInvalid(
                        f"TRACKDESK_CONFIG: {self._path} is empty, and {len(self._tables.own)} tables are in force; "
                        "to take all of them away, leave a comment in it"
                    )
            except SettingsInvalid as error:
                self._watched |= self._named
                self._decided = self._seen = self._stamps()
                self.refused = str(error)
                raise
            if tables.lost(self._tables) and now - self._seen_at < RESTED_AFTER_LOSS_S:
                return False
            if self._stamps() != stamps:  # it went on changing while it was read
                return False
            self._tables, self._watched, self.refused = tables, tables.files, None
            self._decided = self._seen = self._stamps()
            return True

    def _stamps(self) -> Mapping[Path, Stamp | None]:
        paths = self._watched if self._path is None else {self._path, *self._watched}
        return {path: _stamp(path) for path in paths}

    def _wait_until_written(self, age_s: float) -> None:
        while self._path is not None and (stamp := _stamp(self._path)) is not None:
            young_s = age_s - (time.time() - stamp[0] / 1e9)
            if not 0 < young_s <= age_s:
                return
            time.sleep(young_s)

    def _read(self) -> _Tables:
        self._named: set[Path] = set()
        if self._key_file is not None:
            self._named.add(self._key_file)
            self._settings = self._settings.model_copy(update={"api_key": self._shared_key(self._key_file)})
        default = _complete("the environment", _Table.model_validate({}), self._settings)
        if self._path is None:
            return _Tables(default, {}, {}, 0, frozenset(self._named))
        try:
            raw = _read_bounded(self._path, MAX_FILE_BYTES)
            tables = tomllib.loads(raw.decode("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"TRACKDESK_CONFIG: {self._path} cannot be read: {error}") from error
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise SettingsInvalid(f"TRACKDESK_CONFIG: {self._path} is not TOML: {error}") from error
        own = {name: self._tenant(name, table) for name, table in tables.items()}
        keys = {name: frozenset(table) for name, table in tables.items()}
        return _Tables(default, own, keys, len(raw), frozenset(self._named))

    def _shared_key(self, path: Path) -> SecretStr | None:
        try:
            key = _read_bounded(path, MAX_KEY_BYTES).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"TRACKDESK_API_KEY_FILE names a file that cannot be read: {error}") from error
        if not key and self._settings.api_key is not None:  # at start, an empty file is a secret that nobody set
            raise SettingsInvalid(
                "TRACKDESK_API_KEY_FILE names a file that is empty now; the key before it stays in force"
            )
        return SecretStr(key) if key else None

    def _tenant(self, name: str, table: Any) -> TenantSettings:
        where = f"TRACKDESK_CONFIG: {self._path}"
        if not isinstance(table, dict):
            raise SettingsInvalid(f"{where}: {name!r} is outside a table; write it under [<tenant>]")
        try:
            check_tenant(name)
            parsed = _Table.model_validate(table)
        except ConversionInvalid as error:
            raise SettingsInvalid(f"{where}: [{name}]: {error}") from error
        except ValidationError as error:
            raise SettingsInvalid(f"{where}: [{name}]: {_sentence(error)}") from error
        if parsed.api_key_file is not None:
            self._named.add(parsed.api_key_file)
        return _complete(f"{where}: [{name}]", parsed, self._settings, name)


def _complete(where: str, table: _Table, settings: Settings, tenant: str = "tenant") -> TenantSettings:
    """Fill a table up from the environment, and check the result as a whole."""

    def pick(name: str) -> Any:
        own = getattr(table, name)
        return getattr(settings, name) if own is None else own

    rate_limit, meter = pick("rate_limit"), pick("meter")
    if 0 < rate_limit < SLOWEST_RATE:
        raise SettingsInvalid(
            f"{where}: rate_limit must be 0, which is no limit, or at least {SLOWEST_RATE:.6f}, one a day"
        )
    base_s, cap_s = pick("backoff_base_s"), pick("backoff_cap_s")
    if cap_s < base_s:
        raise SettingsInvalid(f"{where}: backoff_cap_s must not be below backoff_base_s")
    try:
        endpoint = Endpoint(pick("base_url"), pick("method"), _key(where, table, settings))
        PreparedEndpoint(endpoint, tenant)
    except EndpointInvalid as error:
        raise SettingsInvalid(f"{where}: {error}") from error
    return TenantSettings(
        limits=Limits(
            rate_per_s=rate_limit * (MINUTE_SHARE if meter == "minute" else 1),
            burst=pick("burst"),
            cap=table.concurrency or settings.tenant_concurrency,
        ),
        endpoint=endpoint,
        policy=Policy(
            max_attempts=pick("max_attempts"),
            horizon_s=pick("horizon_s"),
            backoff_base_s=base_s,
            backoff_cap_s=cap_s,
            metered_by_minute=meter == "minute",
        ),
        created_at=pick("created_at"),
        identity_by_type=pick("identity") == "type_and_external_id",
    )


def _key(where: str, table: _Table, settings: Settings) -> str | None:
    if table.api_key_file is not None:
        try:
            key = _read_bounded(table.api_key_file, MAX_KEY_BYTES).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{where}: api_key_file cannot be read: {error}") from error
        if not key:
            raise SettingsInvalid(f"{where}: api_key_file is empty")
        return key
    secret = table.api_key or settings.api_key
    return None if secret is None else secret.get_secret_value()


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _read_bounded(path: Path, most: int) -> bytes:
    """Return a file's content.

    Raises:
        OSError: if it cannot be read, is larger, or is no plain file, whose reading might never end.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no plain file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"it is larger than {most} bytes")
    return content


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a setting; the settings are {', '.join(TABLE_KEYS)}"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}" if key else problem["msg"]
