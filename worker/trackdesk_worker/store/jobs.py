"""The transitions of jobs, as calls of scripts.

Every method returns a `ScriptCall`: what to send and how to read the reply. A store runs it (`job_store.py`). All times
are Unix milliseconds; ``now_ms=None`` is the clock of Redis.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.doubt import read_past
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobClass
from trackdesk_producer.contract.scripts import Argument, Script, ScriptCall, clock, load_script, text
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_worker.domain.claim import ClaimedJob, Settlement
from trackdesk_worker.domain.limits import Breaker, Limits, Shares
from trackdesk_worker.domain.policy import Policy


def script(name: str) -> Script:
    """Return one of the worker's scripts; all of them may finish work on a full Redis."""
    return load_script(__package__, name, allow_oom=True)


def reading_script(name: str) -> Script:
    """Return one of the worker's scripts that change nothing, and work on a store that refuses writes."""
    return load_script(__package__, name, allow_oom=True, writes=False)


@dataclass(frozen=True, slots=True)
class Claims:
    """What one claim brought."""

    jobs: list[ClaimedJob]
    wait_ms: int | None
    """Time until some tenant's next turn, 0 if one waits now, None if no job is ready."""
    now_ms: int
    """The store's time of the claim."""
    unreadable: tuple[str, ...] = ()
    """Claimed jobs whose record this release cannot read. They are not sent; their leases take them back."""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a reclaim took back."""

    ready: int
    """Jobs that will be tried again: at once, or one by one if they were lost together several times."""
    buried: int


@dataclass(frozen=True, slots=True)
class Unparked:
    """What happened to the parked jobs: those whose record a newer release wrote."""

    back: int
    aside: int
    """Jobs that stay parked: only a newer release can read them."""


class Jobs:
    """The transitions of one namespace."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._envelope = envelope(keys.wakeups)

    def claim(
        self,
        wanted: int,
        *,
        lease_ms: int,
        limits: Limits = Limits(),
        slots: str = Shares().slots(),
        now_ms: int | None = None,
    ) -> ScriptCall[Claims]:
        """Hold up to `wanted` ready jobs for `lease_ms`; their attempt is recorded when this returns.

        `limits` hold for tenants without limits of their own (`set_limits`); `slots` come from `Shares`.
        """
        arguments = (clock(now_ms), wanted, lease_ms, limits.rate_us, limits.burst, limits.cap, slots)
        return ScriptCall(script("claim"), self.keys.prefix, arguments, _read_claims)

    def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        dedupe_window_ms: int,
        breaker: Breaker = Breaker(),
        now_ms: int | None = None,
    ) -> ScriptCall[list[bool]]:
        """End claims; per settlement True, or False where the lease was lost and nothing changed."""
        arguments: list[Argument] = [clock(now_ms), self._envelope, dedupe_window_ms]
        arguments += (breaker.failures, str(breaker.ratio), max(breaker.volume, breaker.failures), breaker.window_ms)
        arguments += (breaker.first_probe_ms, breaker.last_probe_ms)
        for s in settlements:
            mark = "doubt" if s.ambiguous else "refused" if s.refused else "-"
            arguments += (s.id, s.token, s.verb, s.delay_ms, s.reason, s.strikes)
            arguments += (mark, int(s.spends_attempt), s.entry, s.health, int(s.probe))
            arguments += (s.effect, s.effect_ms, int(s.past_horizon))
        return ScriptCall(script("settle"), self.keys.prefix, tuple(arguments), _read_settled)

    def promote(self, most: int = 500, *, now_ms: int | None = None) -> ScriptCall[int]:
        """Move up to `most` due jobs from scheduled to ready; return how many."""
        return ScriptCall(script("promote"), self.keys.prefix, (clock(now_ms), self._envelope, most), int)

    def reclaim(
        self, most: int = 500, *, policy: Policy, lease_ms: int, now_ms: int | None = None
    ) -> ScriptCall[Reclaimed]:
        """Take back up to `most` jobs whose lease ran out.

        `policy` holds for tenants without one of their own (`limits`); no lease is longer than `lease_ms`, or that of
        another worker before.
        """
        arguments = (clock(now_ms), self._envelope, most, policy.max_attempts, round(policy.horizon_s * 1000), lease_ms)
        return ScriptCall(script("reclaim"), self.keys.prefix, arguments, lambda r: Reclaimed(int(r[0]), int(r[1])))

    def prune(self, most: int = 500, *, now_ms: int | None = None) -> ScriptCall[int]:
        """Remove up to `most` tombstones whose dedupe window is over; return how many."""
        return ScriptCall(script("prune"), self.keys.prefix, (clock(now_ms), most), int)

    def unpark(self, most: int = 500, *, now_ms: int | None = None) -> ScriptCall[Unparked]:
        """Put up to `most` jobs back that an older release parked and this one can read."""
        arguments = (clock(now_ms), self._envelope, most)
        return ScriptCall(script("unpark"), self.keys.prefix, arguments, lambda r: Unparked(int(r[0]), int(r[1])))

    def wake(self, *, now_ms: int | None = None) -> ScriptCall[bool]:
        """Wake a worker if a tenant's turn has come; return whether one has."""
        return ScriptCall(script("wake"), self.keys.prefix, (clock(now_ms), self._envelope), bool)

    def alive(self, worker: str, *, forget_after_ms: int, now_ms: int | None = None) -> ScriptCall[int]:
        """Note a worker's heartbeat, and forget workers that have been silent for so long."""
        return ScriptCall(script("heartbeat"), self.keys.prefix, (clock(now_ms), worker, forget_after_ms), int)

    def admission(self, *, closed_for_s: int) -> ScriptCall[int]:
        """Close the store to new sales for so long, or open it: 0."""
        return ScriptCall(script("admission"), self.keys.prefix, (clock(None), closed_for_s), int)

    def limits(
        self, tenants: Iterable[str], own: Mapping[str, tuple[Limits, Policy]], *, now_ms: int | None = None
    ) -> ScriptCall[int]:
        """Give each of `tenants` its own limits and policy, or remove old ones."""
        arguments: list[Argument] = [clock(now_ms)]
        for tenant in tenants:
            if tenant in own:
                limits, policy = own[tenant]
                arguments += [tenant, limits.rate_us, limits.burst, limits.cap]
                arguments += [policy.max_attempts, round(policy.horizon_s * 1000)]
            else:
                arguments += [tenant, "-", 0, 0, 0, 0]
        return ScriptCall(script("limits"), self.keys.prefix, tuple(arguments), int)

    def pause(self, tenant: str, *, operator: str, reason: str, now_ms: int | None = None) -> ScriptCall[bool]:
        """Stop claims of the tenant's jobs until `resume`; return whether that changed anything."""
        arguments = (clock(now_ms), self._envelope, "pause", tenant, operator, reason)
        return ScriptCall(script("tenant"), self.keys.prefix, arguments, _read_changed)

    def resume(self, tenant: str, *, now_ms: int | None = None) -> ScriptCall[bool]:
        """End a pause or a freeze, and try a held tenant now; return whether that changed anything."""
        arguments = (clock(now_ms), self._envelope, "resume", tenant)
        return ScriptCall(script("tenant"), self.keys.prefix, arguments, _read_changed)

    def restored(
        self, tenant: str | None = None, *, since_ms: int | None = None, now_ms: int | None = None
    ) -> ScriptCall[int]:
        """Count what was accepted until now, by one tenant or by all, as perhaps sent; return how many tenants.

        Args:
            since_ms: when the store may have forgotten first; an "already exists" since then refused nothing.
        """
        arguments = (clock(now_ms), tenant or "", "" if since_ms is None else since_ms)
        return ScriptCall(script("restored"), self.keys.prefix, arguments, int)

    def edit(
        self,
        job_id: str,
        *,
        expect: str,
        body: bytes,
        amount: str | None,
        currency: str,
        fingerprint: str,
        note: str,
        entry: str,
        new_key: bool,
        now_ms: int | None = None,
    ) -> ScriptCall[str]:
        """Correct a dead letter and give it a fresh attempt budget.

        Replies ``ok``, ``unknown``, ``changed``, ``refused:<state>``, or ``in_doubt``: an attempt may have landed, and
        with `new_key` Trackdesk would record the sale twice.

        Args:
            expect: SHA-1 of the record that was shown.
            note: the entry in the job's history, without its last brace; the script adds the time.
            entry: for the audit log.
            new_key: whether a field changes on which Trackdesk dedupes.
        """
        money = ("-", "-") if amount is None else (amount, currency)
        arguments = (
            clock(now_ms),
            self._envelope,
            job_id,
            expect,
            body,
            *money,
            fingerprint,
            note,
            entry,
            int(new_key),
        )
        return ScriptCall(script("edit"), self.keys.prefix, arguments, text)


_CLAIM_WIDTH = 13
_CLASSES = {job_class.encode(): job_class for job_class in JobClass}


def _read_claims(reply: list[Any]) -> Claims:
    jobs, unreadable = [], []
    for place in range(2, len(reply), _CLAIM_WIDTH):
        words = reply[place : place + _CLAIM_WIDTH]
        try:
            jobs.append(_read_claim(words))
        except (
            ValueError,
            KeyError,
        ):  # one record that something else altered must not keep the others from being sent
            unreadable.append(words[0].decode(errors="backslashreplace"))
    wait = int(reply[0])
    return Claims(jobs, None if wait < 0 else wait, int(reply[1]), tuple(unreadable))


def _read_claim(words: list[Any]) -> ClaimedJob:
    return ClaimedJob(
        id=text(words[0]),
        token=text(words[1]),
        attempts=int(words[2]),
        strikes=int(words[3]),
        last_reason=text(words[4]),
        past=read_past(text(words[5])),
        epoch_ms=int(words[6]),
        accepted_ms=int(words[7]),
        job_class=_CLASSES[words[8]],
        probe=words[9] == b"1",
        attempts_total=int(words[10]),
        trace=text(words[11]),
        body=words[12],
    )


def _read_settled(reply: list[Any]) -> list[bool]:
    return [item == b"ok" for item in reply]


def _read_changed(reply: Any) -> bool:
    return bool(reply == b"done")
