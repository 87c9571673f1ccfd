"""From a request to a reply, without touching the network: limits, keys, faults, rules, ledger.

`Engine.receive` never waits, so checking for a repeat and recording a conversion cannot be interleaved with
another request: dedupe is atomic on the one event loop that runs the engine.
"""

import math
from dataclasses import replace
from typing import assert_never

from trackdesk_simulator.clock import Clock
from trackdesk_simulator.config import KeyMode, Outage, SimulatorConfig, TenantConfig
from trackdesk_simulator.faults import Fault
from trackdesk_simulator.ledger import Ledger, LedgerFullError, LedgerRow
from trackdesk_simulator.parse import ParsedConversion, UnreadableError, parse_body, parse_query
from trackdesk_simulator.problems import BusinessError
from trackdesk_simulator.reply import HTML_TYPE, WEB_APP, Delivery, Reply, dropped, hung, proxy_error, refusal, success
from trackdesk_simulator.rules import Refusal, judge
from trackdesk_simulator.stats import Arrival, Stats
from trackdesk_simulator.strict import check_strictly, fields_of_body, fields_of_query
from trackdesk_simulator.tenant import Tenant


class Engine:
    """All tenants over one ledger. Not thread-safe."""

    def __init__(self, config: SimulatorConfig, *, ledger: Ledger, clock: Clock) -> None:
        self.config = config
        self.ledger = ledger
        self.clock = clock
        self.stats = Stats(max_arrivals=config.max_arrivals)
        self.tenants: dict[str, Tenant] = {}
        self.opened_at = clock.now()

    def tenant(self, name: str) -> Tenant | None:
        """Return the tenant of this name, made at first sight; None once `max_tenants` are known."""
        tenant = self.tenants.get(name)
        if tenant is None and len(self.tenants) < self.config.max_tenants:
            tenant = self.tenants[name] = Tenant(
                name,
                self.config.tenant(name),
                ledger=self.ledger,
                seed=self.config.seed,
                now=self.clock.now(),
            )
        return tenant

    def configure(self, config: SimulatorConfig) -> None:
        """Use this configuration from the next request on."""
        self.config = config
        now = self.clock.now()
        for tenant in self.tenants.values():
            tenant.configure(config.tenant(tenant.name), now=now)

    def reset(self) -> None:
        """Empty the ledger, the counters and the limiters; keep the configuration."""
        self.ledger.clear()
        self.stats.clear()
        now = self.clock.now()
        self.opened_at = now
        for tenant in self.tenants.values():
            tenant.reset(now=now)

    def receive(self, tenant: Tenant, method: str, query: str, body: bytes, key: str | None) -> Reply:
        """Decide about one request, record what is to be recorded, and say what the client shall see."""
        now = self.clock.now()
        config = tenant.config
        if config.outage is not Outage.OFF:
            limited, reply = None, _outage(config)
        else:
            limited = self._limited(tenant, now)
            reply = limited or self._answer(tenant, method, query, body, key, now)
        self.stats.arrivals.append(Arrival(now, tenant.name, limited is not None))
        self._count(tenant, reply)
        return reply

    def _count(self, tenant: Tenant, reply: Reply) -> None:
        if reply.delivery is Delivery.DROP:
            label = "dropped"
        elif reply.delivery is Delivery.HANG:
            label = "hung"
        else:
            label = str(reply.status)
        self.stats.answers[label] += 1
        tenant.stats.answers[label] += 1

    def _limited(self, tenant: Tenant, now: float) -> Reply | None:
        if tenant.limiter is None:
            return None
        wait_s = tenant.limiter.take(now=now)
        if wait_s is None:
            return None
        tenant.stats.rate_limited += 1
        reply = self._refuse(tenant.config, Refusal(BusinessError.RATE_LIMITED))
        rule = tenant.config.rate_limit
        retry_after_s = max(1, math.ceil(wait_s)) if rule is not None and rule.retry_after else None
        # 429 is the one documented status, so no profile changes it.
        return Reply(429, reply.body, retry_after_s=retry_after_s)

    def _answer(self, tenant: Tenant, method: str, query: str, body: bytes, key: str | None, now: float) -> Reply:
        config = tenant.config
        fault = tenant.dice.draw()
        if fault is not None:
            self.stats.faults[fault] += 1
            reply = _before_commit(fault, tenant)
            if reply is not None:
                return reply
        result = _key_refusal(config, key) or self._convert(tenant, method, query, body, now)
        reply = self._refuse(config, result) if isinstance(result, Refusal) else result
        return reply if fault is None else _after_commit(fault, reply, config)

    def _refuse(self, config: TenantConfig, refused: Refusal) -> Reply:
        self.stats.problems[refused.problem] += 1
        return refusal(config, refused)

    def _convert(self, tenant: Tenant, method: str, query: str, body: bytes, now: float) -> Reply | Refusal:
        if method not in {"GET", "POST"}:
            return Refusal(BusinessError.METHOD_NOT_ALLOWED)
        try:
            conversion = parse_body(body) if method == "POST" else parse_query(query)
            if tenant.config.strict:
                check_strictly(fields_of_body(body) if method == "POST" else fields_of_query(query))
        except UnreadableError as error:
            return Refusal(BusinessError.INVALID_ARGUMENT, str(error))
        verdict = judge(conversion, tenant.config, tenant, now=now, opened_at=self.opened_at)
        if isinstance(verdict, Refusal):
            if verdict.problem is BusinessError.ALREADY_EXISTS:
                self.ledger.note_duplicate(tenant.name, conversion.type_code, conversion.external_id)
            return verdict
        try:
            self.ledger.append(_row(tenant.name, conversion, verdict.source, method, now))
        except LedgerFullError:
            return Refusal(BusinessError.LEDGER_FULL)
        return success(verdict.source if verdict.paired else "")


def _row(tenant: str, conversion: ParsedConversion, source: str, method: str, now: float) -> LedgerRow:
    created_at = conversion.created_at
    return LedgerRow(
        tenant=tenant,
        type_code=conversion.type_code,
        external_id=conversion.external_id,
        revenue_origin_id=conversion.revenue_origin_id,
        source=source,
        amount=conversion.amount,
        currency=conversion.currency,
        status=conversion.status,
        created_at="" if created_at is None else created_at.isoformat(),
        received_at=now,
        method=method,
    )


def _key_refusal(config: TenantConfig, key: str | None) -> Refusal | None:
    match config.key_mode:
        case KeyMode.OPTIONAL:
            return None
        case KeyMode.REQUIRED:
            if not key:
                return Refusal(BusinessError.KEY_MISSING)
            known = not config.api_keys or key in config.api_keys
            return None if known else Refusal(BusinessError.KEY_UNKNOWN)
        case KeyMode.REVOKED:
            return Refusal(BusinessError.KEY_REVOKED)
        case _:
            assert_never(config.key_mode)


def _outage(config: TenantConfig) -> Reply:
    match config.outage:
        case Outage.UNAVAILABLE | Outage.OFF:
            return proxy_error(503)
        case Outage.DROP:
            return dropped()
        case Outage.HANG:
            return hung(config.faults.hang_s)
        case _:
            assert_never(config.outage)


def _before_commit(fault: Fault, tenant: Tenant) -> Reply | None:
    match fault:
        case Fault.DROP_BEFORE_COMMIT:
            return dropped()
        case Fault.HANG:
            return hung(tenant.config.faults.hang_s)
        case Fault.ERROR:
            return proxy_error(tenant.dice.error_status())
        case Fault.HTML_200:
            return Reply(200, WEB_APP, HTML_TYPE)
        case Fault.COMMIT_THEN_DROP | Fault.COMMIT_THEN_LATE | Fault.SLOW_BODY | Fault.EMPTY_CID:
            return None
        case _:
            assert_never(fault)


def _after_commit(fault: Fault, reply: Reply, config: TenantConfig) -> Reply:
    faults = config.faults
    match fault:
        case Fault.COMMIT_THEN_DROP:
            return dropped()
        case Fault.COMMIT_THEN_LATE:
            return replace(reply, wait_s=faults.late_s)
        case Fault.SLOW_BODY:
            return replace(reply, delivery=Delivery.SLOW, wait_s=faults.slow_body_s)
        case Fault.EMPTY_CID:
            return success("") if reply.status == 200 else reply
        case Fault.DROP_BEFORE_COMMIT | Fault.HANG | Fault.ERROR | Fault.HTML_200:
            return reply
        case _:
            assert_never(fault)
