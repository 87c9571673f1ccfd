"""Settings of single tenants: the environment's values, and over them a TOML file with a table per tenant.

    [my-shop]
    rate_limit = 20
    api_key_file = "/run/secrets/my-shop"

A file that changes is read again while the worker runs. One that became wrong is refused as a whole and told; the
settings before it stay in force, so that a slip of the hand stops no deliveries.
"""

import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from trackdesk_producer import ConversionInvalid
from trackdesk_producer.contract.checks import check_tenant
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.settings import Settings, SettingsInvalid
from trackdesk_worker.store.jobs import Limits
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint, EndpointInvalid, endpoint_url

MAX_FILE_BYTES = 4 * 1024 * 1024
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


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """Everything that may differ from tenant to tenant, complete."""

    limits: Limits
    endpoint: Endpoint
    policy: Policy
    created_at: CreatedAt
    identity_by_type: bool


class Tenants:
    """The settings of every tenant. Thread-safe; `refresh` reads a changed file again."""

    def __init__(self, settings: Settings) -> None:
        """Read the file.

        Raises:
            SettingsInvalid: with one sentence that names table, key and rule.
        """
        self._settings = settings
        self._path = settings.config
        self._lock = threading.Lock()
        self._default = _complete("the environment", _Table.model_validate({}), settings)
        self._stamp = self._file_stamp()
        self._own = self._read()

    def get(self, tenant: str) -> TenantSettings:
        """Return one tenant's settings."""
        return self._own.get(tenant, self._default)

    @property
    def default(self) -> TenantSettings:
        """What holds for tenants without a table."""
        return self._default

    @property
    def own(self) -> Mapping[str, TenantSettings]:
        """The tenants that have a table."""
        return self._own

    def refresh(self) -> bool:
        """Read the file again if it changed; return whether new settings are in force.

        Raises:
            SettingsInvalid: when the changed file is wrong, once per change; the settings before stay.
        """
        with self._lock:
            stamp = self._file_stamp()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self._own = self._read()
            return True

    def _file_stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)

    def _read(self) -> dict[str, TenantSettings]:
        if self._path is None:
            return {}
        try:
            if self._path.stat().st_size > MAX_FILE_BYTES:
                raise SettingsInvalid(f"TRACKDESK_CONFIG: {self._path} is larger than {MAX_FILE_BYTES} bytes")
            tables = tomllib.loads(self._path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"TRACKDESK_CONFIG: {self._path} cannot be read: {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsInvalid(f"TRACKDESK_CONFIG: {self._path} is not TOML: {error}") from error
        return {name: self._tenant(name, table) for name, table in tables.items()}

    def _tenant(self, name: str, table: Any) -> TenantSettings:
        where = f"TRACKDESK_CONFIG: {self._path}"
        if not isinstance(table, dict):
            raise SettingsInvalid(f"{where}: {name!r} stands outside a table; write it under [<tenant>]")
        try:
            check_tenant(name)
            parsed = _Table.model_validate(table)
        except ConversionInvalid as error:
            raise SettingsInvalid(f"{where}: [{name}]: {error}") from error
        except ValidationError as error:
            raise SettingsInvalid(f"{where}: [{name}]: {_sentence(error)}") from error
        return _complete(f"{where}: [{name}]", parsed, self._settings, name)


def _complete(where: str, table: _Table, settings: Settings, tenant: str = "tenant") -> TenantSettings:
    """Fill a table up from the environment, and check the result as a whole."""

    def pick(name: str) -> Any:
        own = getattr(table, name)
        return getattr(settings, name) if own is None else own

    rate_limit, meter = pick("rate_limit"), pick("meter")
    base_s, cap_s = pick("backoff_base_s"), pick("backoff_cap_s")
    if cap_s < base_s:
        raise SettingsInvalid(f"{where}: backoff_cap_s must not be below backoff_base_s")
    try:
        endpoint = Endpoint(pick("base_url"), pick("method"), _key(where, table, settings))
        endpoint_url(endpoint.base_url, tenant)
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
            key = table.api_key_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{where}: api_key_file cannot be read: {error}") from error
        if not key:
            raise SettingsInvalid(f"{where}: api_key_file is empty")
        return key
    secret = table.api_key or settings.api_key
    return None if secret is None else secret.get_secret_value()


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a setting; the settings are {', '.join(_Table.model_fields)}"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}" if key else problem["msg"]
