"""What the simulated Trackdesk accepts and how it misbehaves. Values are immutable; a change is a new one.

`SimulatorConfig` holds the behaviour of every tenant; `tenants` replaces single settings for single tenants.
Whatever is unknown about the real Trackdesk is a setting here.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from trackdesk_simulator.problems import DEFAULTS, BusinessError

ErrorStatus = Annotated[int, Field(ge=500, le=599)]
Probability = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
TenantName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Profile(StrEnum):
    """How a refusal becomes an HTTP answer; the real mapping is unknown."""

    GATEWAY = "gateway"
    ALL_400 = "all-400"
    ALL_500 = "all-500"
    EMPTY_BODY = "empty-body"


class KeyMode(StrEnum):
    """What is made of the `X-Api-Key` header: ignored, needed, or refused whatever it says."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    REVOKED = "revoked"


class Outage(StrEnum):
    """A total failure: every request is answered 503, has its connection aborted, or is never answered."""

    OFF = "off"
    UNAVAILABLE = "503"
    DROP = "drop"
    HANG = "hang"


class ClickState(StrEnum):
    """What Trackdesk knows about a click; an unpaired one is accepted and answered with an empty cid."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    INACTIVE = "inactive"
    UNPAIRED = "unpaired"


class LimitKind(StrEnum):
    """A token bucket, or a count per wall-clock minute that blocks until the minute ends."""

    BUCKET = "bucket"
    MINUTE = "minute"


class Model(BaseModel):
    """Frozen, and refuses settings it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConversionType(Model):
    """One conversion type of the offer: percentage types need an amount."""

    kind: str = Field(default="percentage", pattern="^(fixed|percentage)$")
    configured: bool = True
    priced: bool = True
    recurrent: bool = True
    limit_per_click: int | None = Field(default=None, ge=0)


class Click(Model):
    """One click, or every click with a prefix. Without `clicked_at` it dates from the simulator's start."""

    state: ClickState = ClickState.KNOWN
    clicked_at: AwareDatetime | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_the_bare_state(cls, data: Any) -> Any:
        return {"state": data} if isinstance(data, str) else data


class RateLimit(Model):
    """A tenant's request limit.

    The bucket holds `burst` tokens (default: one second's worth) and refills at `per_s`. A refusal starts
    a lockout of `lockout_s` seconds, or until the wall-clock minute ends, if so set. The minute kind allows
    `per_s * 60` requests a wall-clock minute, then blocks until the minute ends.
    """

    kind: LimitKind = LimitKind.BUCKET
    per_s: float = Field(default=5.0, gt=0, le=1_000_000)
    burst: int | None = Field(default=None, ge=1)
    lockout_s: Seconds = 0.0
    until_minute_ends: bool = False
    retry_after: bool = False

    @property
    def capacity(self) -> int:
        """Tokens of a full bucket."""
        return max(1, math.floor(self.per_s)) if self.burst is None else self.burst


class Faults(Model):
    """At most one fault strikes a request; each share is exact, so together they are at most 1."""

    commit_then_drop: Probability = 0.0
    commit_then_late: Probability = 0.0
    drop_before_commit: Probability = 0.0
    slow_body: Probability = 0.0
    error_rate: Probability = 0.0
    html_200: Probability = 0.0
    empty_cid: Probability = 0.0
    hang: Probability = 0.0
    error_statuses: tuple[ErrorStatus, ...] = Field(default=(500, 502, 503), min_length=1)
    error_burst: int = Field(default=1, ge=1, description="errors in a row once one was drawn")
    late_s: Seconds = 30.0
    slow_body_s: Seconds = 1.0
    hang_s: Seconds = 60.0

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        shares = (
            self.commit_then_drop,
            self.commit_then_late,
            self.drop_before_commit,
            self.slow_body,
            self.error_rate,
            self.html_200,
            self.empty_cid,
            self.hang,
        )
        if sum(shares) > 1 + 1e-9:
            raise ValueError("the probabilities of the faults add up to more than 1")
        return self


class ProblemAnswer(Model):
    """Replaces the gRPC code or the message of one problem."""

    code: int | None = Field(default=None, ge=1, le=16)
    message: str | None = None


class TenantConfig(Model):
    """Everything that may differ from tenant to tenant."""

    profile: Profile = Profile.GATEWAY
    types: dict[str, ConversionType] = Field(
        default_factory=lambda: {"sale": ConversionType(), "lead": ConversionType(kind="fixed")}
    )
    clicks: dict[str, Click] = Field(
        default_factory=lambda: {f"{state}-*": Click(state=state) for state in ClickState},
        description="by cid, external cid or client id; a trailing * matches a prefix; an exact entry wins",
    )
    unlisted_click: ClickState = ClickState.KNOWN
    currencies: frozenset[str] | None = Field(default=None, description="None accepts every currency")
    attribution_window_s: float | None = Field(default=None, ge=0)
    expiry_by_created_at: bool = Field(default=False, description="the window ends by createdAt")
    network: bool = Field(default=False, description="the revenue origin is part of the dedupe key")
    strict: bool = Field(default=False, description="refuse what a gateway drops or accepts loosely (strict.py)")
    dedupe: bool = Field(default=True, description="False lets repeats through, to see what a sender doubles")
    problems: dict[BusinessError, ProblemAnswer] = Field(default_factory=dict)
    faults: Faults = Faults()
    outage: Outage = Outage.OFF
    rate_limit: RateLimit | None = None
    key_mode: KeyMode = KeyMode.OPTIONAL
    api_keys: frozenset[str] = Field(default=frozenset(), description="accepted keys; empty accepts any")
    latency_s: Seconds = 0.0

    _prefixes: tuple[tuple[str, Click], ...] = PrivateAttr(())
    _prefix_names: tuple[str, ...] = PrivateAttr(())
    _unlisted: Click = PrivateAttr(Click())

    @model_validator(mode="after")
    def _index_clicks(self) -> Self:
        prefixes = sorted((k[:-1], v) for k, v in self.clicks.items() if k.endswith("*"))
        self._prefixes = tuple(reversed(prefixes))  # the longer of two nested prefixes comes first
        self._prefix_names = tuple(name for name, _ in prefixes)
        self._unlisted = Click(state=self.unlisted_click)
        return self

    def click(self, name: str) -> Click:
        """Return what is known about the click of this cid, external cid or client id."""
        exact = self.clicks.get(name)
        if exact is not None:
            return exact
        if self._prefix_names and name.startswith(self._prefix_names):
            return next(click for prefix, click in self._prefixes if name.startswith(prefix))
        return self._unlisted

    def answer_for(self, problem: BusinessError) -> tuple[int, str]:
        """Return the gRPC code and the message of a problem."""
        code, message = DEFAULTS[problem]
        own = self.problems.get(problem)
        if own is None:
            return code, message
        return own.code or code, message if own.message is None else own.message


class SimulatorConfig(TenantConfig):
    """The whole simulator: the behaviour of all tenants, and the settings of the process.

    `host`, `port`, `seed`, `ledger_path` and the bounds are read at start; the rest may change at run time.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    seed: int = 1
    ledger_path: Path | None = None
    default_tenant: TenantName = "default"
    max_body_bytes: int = Field(default=65_536, ge=1_024)
    max_rows: int = Field(default=2_000_000, ge=1)
    max_tenants: int = Field(default=10_000, ge=1)
    max_arrivals: int = Field(default=100_000, ge=0)
    tenants: dict[TenantName, dict[str, Any]] = Field(default_factory=dict)

    _tenant_configs: dict[str, TenantConfig] = PrivateAttr(default_factory=dict)
    _common: TenantConfig = PrivateAttr()

    @model_validator(mode="after")
    def _resolve_tenants(self) -> Self:
        common = {name: getattr(self, name) for name in TenantConfig.model_fields}
        self._common = TenantConfig.model_validate(common)
        for name, own in self.tenants.items():
            try:
                self._tenant_configs[name] = TenantConfig.model_validate(common | own)
            except ValidationError as error:
                raise ValueError(f"tenant {name}: {explain(error)}") from error
        return self

    def tenant(self, name: str) -> TenantConfig:
        """Return a tenant's settings: its own where it names them, the common ones elsewhere."""
        return self._tenant_configs.get(name, self._common)

    def patched(self, patch: Mapping[str, Any]) -> Self:
        """Return a copy with a JSON merge patch (RFC 7386) applied; null puts a setting back to its default.

        Raises pydantic's ValidationError for an unknown or impossible setting, and ValueError for one that
        is only read at start.
        """
        merged = _merge(self.model_dump(mode="json"), patch)
        changed = type(self).model_validate(merged)
        for name in START_ONLY:
            if getattr(changed, name) != getattr(self, name):
                raise ValueError(f"{name} cannot change while the simulator runs")
        return changed


START_ONLY = (
    "host",
    "port",
    "seed",
    "ledger_path",
    "max_body_bytes",
    "max_rows",
    "max_tenants",
    "max_arrivals",
)


def _merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = _merge(old if isinstance(old, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def explain(error: ValueError) -> str:
    """Return one plain sentence, without its full stop, about settings that were refused."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
