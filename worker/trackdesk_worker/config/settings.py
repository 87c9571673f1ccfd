"""Every setting of a deployment, read from the environment here and nowhere else."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from trackdesk_producer import ConversionInvalid, Durability, OptionInvalid
from trackdesk_producer._redis.address import parse_address
from trackdesk_producer.conversion.rules import check_namespace, check_tenant
from trackdesk_worker.domain.limits import Breaker, Shares
from trackdesk_worker.trackdesk.created_at import CreatedAt

LEASE_MARGIN_S = 20.0
"""What a lease lasts beyond the longest request: time for the answer to be settled, retries of Redis included."""

PREFIX = "TRACKDESK_"
SECRETS = ("TRACKDESK_API_KEY",)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsInvalid(Exception):
    """The environment does not make a deployment; the message names each variable and what is wrong with it."""


class _SecretFiles(PydanticBaseSettingsSource):
    """``TRACKDESK_<NAME>_FILE`` names a file that holds the value: how containers hand over secrets."""

    def __init__(self, settings_cls: type[BaseSettings], environment: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._environment = environment

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing for single fields: `__call__` reads them all."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {}
        for name in self.settings_cls.model_fields:
            variable = f"{PREFIX}{name.upper()}_FILE"
            path = self._environment.get(variable)
            if not path:
                continue
            try:
                value = Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsInvalid(f"{variable} names a file that cannot be read: {error}") from error
            if value:  # an empty file is a secret nobody set
                values[name] = value
        return values


def api_key_file() -> Path | None:
    """Return the file that ``TRACKDESK_API_KEY_FILE`` names; None where ``TRACKDESK_API_KEY`` is set."""
    path = os.environ.get(f"{PREFIX}API_KEY_FILE")
    return Path(path) if path and not os.environ.get(f"{PREFIX}API_KEY") else None


class Settings(BaseSettings):
    """The settings, checked together. Times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    redis_url: SecretStr = Field(
        SecretStr("redis://localhost:6379/0"),
        description="The store: redis://, rediss://, unix:// or sentinel://host,host/master",
    )
    namespace: str = Field("trackdesk", description="Prefix of all keys")
    tenant: str | None = Field(None, description="Default tenant of commands and producers")
    base_url: str = Field("https://{tenant}.trackdesk.com", description="Where Trackdesk is; may name a fixed host")
    api_key: SecretStr | None = Field(None, description="Sent as X-Api-Key if set")
    method: Literal["POST", "GET"] = Field("POST", description="How conversions are sent")
    rate_limit: float = Field(
        5, ge=0, le=100_000, description="Requests per second and tenant, over all processes; 0 is unlimited"
    )
    burst: int = Field(2, ge=1, le=10_000, description="Requests a tenant may send at once after a rest")
    meter: Literal["second", "minute"] = Field(
        "second", description="How Trackdesk counts: minute keeps 2 % below and waits out a blocked minute"
    )
    class_shares: str = Field(
        "7:2:1", pattern=r"^\d{1,2}:\d{1,2}:\d{1,2}$", description="Guaranteed shares of live, retry and redrive"
    )
    tenant_concurrency: int = Field(
        1024, ge=1, le=65_536, description="Requests in flight per tenant, over all processes"
    )
    breaker_ratio: float = Field(
        0.9, gt=0, le=1, description="Share of failed requests within BREAKER_WINDOW_S that opens a tenant's breaker"
    )
    breaker_volume: int = Field(
        20, ge=2, le=100_000, description="Requests within BREAKER_WINDOW_S below which failures in a row count instead"
    )
    breaker_window_s: float = Field(10, ge=1, le=3600, description="How far back the breaker looks")
    breaker_failures: int = Field(
        5, ge=1, le=1000, description="Failures in a row, of two sales at least, that open it below that volume"
    )
    breaker_probe_s: float = Field(
        5, ge=0.1, le=3600, description="Pause before an open breaker's first probe; doubles"
    )
    breaker_probe_cap_s: float = Field(300, ge=0.1, le=86_400, description="Longest pause between probes")
    identity: Literal["external_id", "type_and_external_id"] = Field(
        "external_id", description="What makes a sale: type_and_external_id for shops that reuse order ids"
    )
    created_at: CreatedAt = Field(
        CreatedAt.LATE, description="When createdAt is filled in: late (after 5 minutes), always, never"
    )
    config: Path | None = Field(None, description="TOML file with a table per tenant")
    concurrency: int = Field(256, ge=1, le=4096, description="Requests in flight per process")
    timeout_s: float = Field(10, gt=0, le=300, description="Limit for one request, from connect to last byte")
    lease_s: float | None = Field(
        None, gt=0, description=f"How long a claim holds; default: the timeout and {LEASE_MARGIN_S:g} s"
    )
    max_attempts: int = Field(20, ge=1, le=1000, description="Requests before a job is a dead letter")
    horizon_s: float = Field(
        3 * 86_400, gt=0, le=3650 * 86_400, description="Age at which a job that keeps failing is a dead letter"
    )
    backoff_base_s: float = Field(2, gt=0, le=3600, description="Pause before the second attempt; doubles from there")
    backoff_cap_s: float = Field(3600, gt=0, le=86_400, description="Longest pause between attempts")
    dedupe_window_s: int = Field(30 * 86_400, ge=60, description="How long an ended sale still refuses a second one")
    durability: Durability = Field(Durability.MEMORY, description="What enqueue and import promise")
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9464, description="Port of the first worker's /metrics; further processes count up; 0 is off"
    )
    metrics_host: str = Field("127.0.0.1", description="Interface of /metrics")
    console_port: Annotated[int, Field(ge=1, le=65_535)] = Field(9463, description="Port of exporter and console")
    console_host: str = Field(
        "127.0.0.1", description="Interface of exporter and console; another needs CONSOLE_TOKENS"
    )
    console_tokens: Path | None = Field(
        None, description="File of the console's people and hashed tokens; `trackdesk console token` writes it"
    )
    console_url: str | None = Field(
        None, description="Address that people open, when the console is behind a proxy: https://desk.example.com"
    )
    console_proxies: str = Field(
        "", description="Addresses and networks of trusted proxies, which name the user: 10.0.0.5,10.1.0.0/16"
    )
    console_user_header: str = Field(
        "X-Forwarded-User", pattern=r"^[A-Za-z0-9-]{1,64}$", description="Header in which such a proxy names the user"
    )
    console_proxy_role: Literal["viewer", "operator", "admin"] = Field(
        "viewer", description="Role of such users without a line in CONSOLE_TOKENS"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level logged")
    trust_env: bool = Field(False, description="Whether HTTP(S)_PROXY counts for deliveries")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, then variables, then files the variables name."""
        return init_settings, env_settings, _SecretFiles(settings_cls, os.environ)

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        return check_namespace(value)

    @field_validator("tenant")
    @classmethod
    def _tenant(cls, value: str | None) -> str | None:
        return None if value is None else check_tenant(value)

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("must start with https:// or http://")
        return value.rstrip("/")

    @field_validator("console_url")
    @classmethod
    def _console_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.path.rstrip("/") or parts.query:
            raise ValueError("must be a scheme and a host, as https://desk.example.com")
        return value.rstrip("/")

    @field_validator("console_proxies")
    @classmethod
    def _console_proxies(cls, value: str) -> str:
        _networks(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url(cls, value: SecretStr) -> SecretStr:
        try:
            parse_address(value.get_secret_value())
        except OptionInvalid as error:
            raise ValueError(error.rule) from None
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.lease_s is not None and self.lease_s <= self.timeout_s + 1:
            raise ValueError(
                f"LEASE_S ({self.lease_s:g}) must be more than a second longer than TIMEOUT_S ({self.timeout_s:g}): "
                "a lease that ends under a request makes a second worker send the same sale"
            )
        if sum(self._share_numbers) == 0:
            raise ValueError("CLASS_SHARES must not be all zero")
        if self.backoff_cap_s < self.backoff_base_s:
            raise ValueError("BACKOFF_CAP_S must not be below BACKOFF_BASE_S")
        return self

    @property
    def _share_numbers(self) -> tuple[int, int, int]:
        live, retry, redrive = (int(share) for share in self.class_shares.split(":"))
        return live, retry, redrive

    @property
    def shares(self) -> Shares:
        """The guaranteed shares of the classes."""
        return Shares(*self._share_numbers)

    @property
    def breaker(self) -> Breaker:
        """When a tenant's breaker opens, and how often it is probed."""
        first_ms, last_ms = int(self.breaker_probe_s * 1000), int(self.breaker_probe_cap_s * 1000)
        return Breaker(
            failures=self.breaker_failures,
            ratio=self.breaker_ratio,
            volume=self.breaker_volume,
            window_ms=int(self.breaker_window_s * 1000),
            first_probe_ms=first_ms,
            last_probe_ms=max(first_ms, last_ms),
        )

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The trusted proxies: those that may name a console's user."""
        return _networks(self.console_proxies)

    @property
    def lease_ms(self) -> int:
        """How long a claim holds, in ms."""
        return int((self.lease_s or self.timeout_s + LEASE_MARGIN_S) * 1000)


def tracing_wanted() -> bool:
    """Return whether the standard OTEL_* variables name a collector for traces, and nothing turns it off."""
    named = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    return bool(named) and not off


def tracing_protocol() -> str:
    """Return the OTLP protocol that the standard variables ask for."""
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or general


def _networks(text: str) -> tuple[Network, ...]:
    """Return the addresses and networks of a comma-separated list.

    Raises:
        ValueError: with a sentence, naming what is none.
    """
    found = []
    for word in filter(None, (word.strip() for word in text.split(","))):
        try:
            found.append(ipaddress.ip_network(word, strict=False))
        except ValueError as error:
            raise ValueError(f"{word!r} is no address or network; write 10.0.0.5,10.1.0.0/16") from error
    return tuple(found)


def secrets_in_clear() -> list[str]:
    """Return the variables that hold a secret themselves, instead of naming a file that does."""
    return [name for name in SECRETS if os.environ.get(name)]


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` (a command's options) go first.

    Raises:
        SettingsInvalid: with one sentence that names every variable that is wrong.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ConversionInvalid as error:
        raise SettingsInvalid(str(error)) from error
    except ValidationError as error:
        raise SettingsInvalid("; ".join(_sentences(error))) from error


def _sentences(error: ValidationError) -> list[str]:
    said = []
    for problem in error.errors(include_url=False, include_input=False):
        name = PREFIX + "_".join(str(part) for part in problem["loc"]).upper() if problem["loc"] else "the settings"
        message = problem["msg"].removeprefix("Value error, ")
        said.append(f"{name}: {message}" if problem["loc"] else message)
    return said
