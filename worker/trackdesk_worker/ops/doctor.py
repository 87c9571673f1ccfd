"""Checks settings and store for what loses money, each with the line that fixes it. Never shows a secret."""

import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import redis
from redis.exceptions import RedisError

from trackdesk_producer import Durability
from trackdesk_producer._redis.address import parse_address
from trackdesk_worker.config.settings import LEASE_MARGIN_S, Settings, SettingsInvalid
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.snapshot import WORKER_SEEN_S

FULL_WARN, FULL_FAIL = 0.75, 0.9
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 30.0
_OLDEST = (7, 0)
SHOWN = 10


class Level(StrEnum):
    """Severity."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    level: Level
    finding: str
    remedy: str | None = None
    """The line that fixes it."""


Checks: TypeAlias = list[Check]


def diagnose(settings: Settings, store: JobStore, *, secrets_in_environment: Sequence[str] = ()) -> Checks:
    """Return every check, also for a store that cannot be reached.

    Args:
        secrets_in_environment: variables that hold a secret in clear.
    """
    checks = check_settings(settings, secrets_in_environment)
    try:
        started_s = time.time()
        stored_ms = store.time_ms()
        skew_s = stored_ms / 1000 - (started_s + time.time()) / 2
        info: dict[str, Any] = store.client.info("all")
        checks.append(Check("store", Level.OK, f"answers; {_server_name(info)}"))
        checks += [_clock(skew_s), *check_server(info)]
        checks += [_appendfsync(store), *_abilities(settings, store, info), _admission(store)]
        checks += [_tenants(settings, store), _workers(store, stored_ms), _release(store)]
    except RedisError as error:
        checks.append(
            Check("store", Level.FAIL, f"it cannot be used: {error}", "start it, or correct TRACKDESK_REDIS_URL")
        )
    return checks


def check_settings(settings: Settings, secrets_in_environment: Sequence[str]) -> Checks:
    """Check the settings."""
    checks = [_lease(settings), _base_url(settings), *_tenants_file(settings), _redis_url(settings)]
    for name in secrets_in_environment:
        finding = f"{name} holds a secret in clear, where every child process and crash report sees it"
        checks.append(Check("secrets", Level.WARN, finding, f"write it to a file and set {name}_FILE to its path"))
    return checks


def check_server(info: dict[str, Any]) -> Checks:
    """Check the server's INFO."""
    checks = []
    version = tuple(int(part) for part in str(info.get("redis_version", "0.0")).split(".")[:2])
    if version < _OLDEST:
        finding = f"{_server_name(info)} is too old for the scripts"
        checks.append(Check("version", Level.FAIL, finding, "run Redis 7.0 or newer, or Valkey"))
    if info.get("role") not in (None, "master"):
        finding = "it is a replica and takes no writes"
        checks.append(Check("role", Level.FAIL, finding, "point TRACKDESK_REDIS_URL at the primary"))
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        checks.append(Check("eviction", Level.OK, "noeviction"))
    else:
        finding = f"maxmemory-policy is {policy}: a full store would delete sales"
        checks.append(Check("eviction", Level.FAIL, finding, "CONFIG SET maxmemory-policy noeviction"))
    if info.get("aof_enabled"):
        checks.append(Check("aof", Level.OK, "on"))
    else:
        finding = "the append-only file is off: a restart loses sales"
        checks.append(Check("aof", Level.FAIL, finding, "CONFIG SET appendonly yes, and in the server's file"))
    checks += [
        Check("aof", Level.FAIL, f"{field} is {info[field]}", "look at the server's disk and log")
        for field in ("aof_last_write_status", "aof_last_bgrewrite_status")
        if info.get(field, "ok") != "ok"
    ]
    checks.append(_memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))))
    return checks


def _lease(settings: Settings) -> Check:
    lease_s, timeout_s = settings.lease_ms / 1000, settings.timeout_s
    finding = f"a claim holds {lease_s:g} s, a request takes at most {timeout_s:g} s"
    if lease_s <= timeout_s:
        return Check("lease", Level.FAIL, f"{finding}: two workers could send one sale", "unset TRACKDESK_LEASE_S")
    if lease_s < timeout_s + LEASE_MARGIN_S / 2:
        return Check("lease", Level.WARN, f"{finding}: little time to settle", "unset TRACKDESK_LEASE_S")
    return Check("lease", Level.OK, finding)


def _base_url(settings: Settings) -> Check:
    parts = urlsplit(settings.base_url.replace("{tenant}", "tenant"))
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        finding = "TRACKDESK_BASE_URL is plain http to another machine: the key and the sales can be read and changed"
        return Check("base url", Level.FAIL, finding, "TRACKDESK_BASE_URL=https://{tenant}.trackdesk.com")
    if _is_loopback(parts.hostname):
        finding = "TRACKDESK_BASE_URL is this machine: a trial, no sale reaches Trackdesk"
        return Check("base url", Level.WARN, finding, "TRACKDESK_BASE_URL=https://{tenant}.trackdesk.com")
    return Check("base url", Level.OK, "https")


def _tenants_file(settings: Settings) -> Checks:
    """Read TRACKDESK_CONFIG and the files it names, as a worker does."""
    try:
        tenants = Tenants(settings)
    except SettingsInvalid as error:
        remedy = "correct it; running workers keep the settings before it, and new ones do not start"
        return [Check("tenants file", Level.FAIL, str(error), remedy)]
    if settings.config is None:
        return []
    open_to_all = [
        name
        for name, own in tenants.own.items()
        if (parts := urlsplit(own.endpoint.base_url)).scheme == "http" and not _is_loopback(parts.hostname)
    ]
    if open_to_all:
        names = ", ".join(sorted(open_to_all)[:SHOWN])
        finding = f"base_url of {names} is plain http to another machine: the key and the sales can be read and changed"
        return [Check("tenants file", Level.FAIL, finding, "write https:// addresses")]
    return [Check("tenants file", Level.OK, f"{len(tenants.own)} tables")]


def _redis_url(settings: Settings) -> Check:
    address = parse_address(settings.redis_url.get_secret_value())
    if all(_is_loopback(host) for host, _ in address.hosts):
        return Check("store url", Level.OK, "on this machine")
    if not address.options.get("password"):
        finding = "the store is on another machine and asks for no password"
        return Check("store url", Level.WARN, finding, "set a password or an ACL user, and name it in the URL")
    if not address.tls:
        finding = "the password and the sales go to the store in clear"
        return Check(
            "store url", Level.WARN, finding, "use rediss:// (sentinels://) unless the network between is trusted"
        )
    return Check("store url", Level.OK, "TLS, with a password")


def _clock(skew_s: float) -> Check:
    finding = f"this machine and the store differ by {abs(skew_s):.1f} s"
    if abs(skew_s) > SKEW_FAIL_S:
        return Check("clock", Level.FAIL, finding, "run NTP on both: createdAt and waiting times would be wrong")
    return Check("clock", Level.WARN if abs(skew_s) > SKEW_WARN_S else Level.OK, finding, "run NTP on both")


def _memory(used: int, limit: int) -> Check:
    if not limit:
        finding = "maxmemory is not set: the machine's memory is the limit, and its OOM killer decides"
        return Check("memory", Level.WARN, finding, "CONFIG SET maxmemory to 3/4 of the machine's memory")
    share = used / limit
    level = Level.FAIL if share > FULL_FAIL else Level.WARN if share > FULL_WARN else Level.OK
    remedy = None if level is Level.OK else "raise maxmemory, or shorten TRACKDESK_DEDUPE_WINDOW_S"
    return Check("memory", level, f"{share:.0%} of maxmemory is used", remedy)


def _appendfsync(store: JobStore) -> Check:
    try:
        value = store.client.config_get("appendfsync").get("appendfsync")
    except redis.ResponseError:
        finding = "the server does not report its appendfsync"
        return Check("fsync", Level.WARN, finding, "make sure that it is everysec or always")
    if value == "no":
        finding = "appendfsync is no: a crash of the machine loses what the system has not written yet"
        return Check("fsync", Level.FAIL, finding, "CONFIG SET appendfsync everysec")
    lost = "nothing" if value == "always" else "about a second of sales, unless durability is fsync"
    return Check("fsync", Level.OK, f"appendfsync {value}: a crash of the machine loses {lost}")


def _abilities(settings: Settings, store: JobStore, info: dict[str, Any]) -> Checks:
    if settings.durability is Durability.FSYNC:
        # Checked by command: Valkey reports the version of an older Redis.
        # One argument, because redis-py's parser of the plain COMMAND reply fails on an unknown command.
        known: Any = store.client.execute_command("COMMAND INFO", "WAITAOF")
        if not any(known):
            finding = "TRACKDESK_DURABILITY is fsync, but the server has no WAITAOF"
            return [Check("durability", Level.FAIL, finding, "run Redis 7.2 or newer, or Valkey")]
    if settings.durability is Durability.REPLICATED and not int(info.get("connected_slaves", 0)):
        finding = "TRACKDESK_DURABILITY is replicated, but no replica is connected"
        return [Check("durability", Level.FAIL, finding, "connect a replica, or set TRACKDESK_DURABILITY=fsync")]
    return [Check("durability", Level.OK, settings.durability.value)]


def _admission(store: JobStore) -> Check:
    if store.client.exists(store.keys.admission):
        return Check("admission", Level.FAIL, "enqueue is refused: the store is nearly full", "raise maxmemory")
    return Check("admission", Level.OK, "open")


def _tenants(settings: Settings, store: JobStore) -> Check:
    tenants = store.tenants()
    if len(tenants) > 1 and "{tenant}" not in settings.base_url:
        finding = f"the sales of {len(tenants)} tenants all go to the one host of TRACKDESK_BASE_URL"
        return Check("tenants", Level.FAIL, finding, "put {tenant} into TRACKDESK_BASE_URL")
    return Check("tenants", Level.OK, f"{len(tenants)} seen")


def _workers(store: JobStore, stored_ms: int) -> Check:
    running = store.client.zcount(store.keys.workers, stored_ms - WORKER_SEEN_S * 1000, "+inf")
    if not running:
        finding = f"no heartbeat within {WORKER_SEEN_S} s: nothing is delivered"
        return Check("workers", Level.WARN, finding, "start `trackdesk worker`")
    return Check("workers", Level.OK, f"{running} running")


def _release(store: JobStore) -> Check:
    aside = store.client.zcard(store.keys.newer)
    if aside:
        finding = (
            f"{aside} jobs wait, safe and unsent: only the newer release that wrote their records can deliver them"
        )
        return Check("release", Level.FAIL, finding, "start workers of that release again, beside these or alone")
    return Check("release", Level.OK, "every record read so far is of a known format")


def _server_name(info: dict[str, Any]) -> str:
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', 'of an unknown version')}"


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
