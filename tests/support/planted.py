"""Bugs that a test plants in its own copy of the product's behaviour, to see that the checks can fail.

`plant` changes this process only: a test's (undo with the function it returns), or a worker that
`tests/support/launcher.py` starts.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trackdesk_producer import Producer, Receipt, ReceiptStatus, State
from trackdesk_producer.contract.scripts import Script, ScriptCall
from trackdesk_worker.config import tenants
from trackdesk_worker.domain.outcome import Outcome, OutcomeKind, Reason, TenantEffectKind
from trackdesk_worker.maintenance import loop
from trackdesk_worker.ops.dead_letters import edit as desk_edit
from trackdesk_worker.store import jobs
from trackdesk_worker.store.job_store import AsyncJobStore
from trackdesk_worker.telemetry import log_writer
from trackdesk_worker.trackdesk import answers

VARIABLE = "TRACKDESK_TEST_PLANT"
LATER_S = 0.3


@dataclass(frozen=True)
class Edit:
    """One passage of a script's source, replaced."""

    script: str
    old: str
    new: str

    def apply(self, script: Script) -> Script:
        """Return the edited script; fail if the passage is not there once, so that no plant goes stale."""
        assert script.source.count(self.old) == 1, f"{self.script} holds {self.old!r} not exactly once"
        source = script.source.replace(self.old, self.new)
        return Script(script.name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


EDITS = {
    "settle without the token check": Edit("settle", "or job.token ~= token then", "then"),
    "claim without a lease": Edit("claim", "add_later(key('in_flight'), lease_end, id)", ""),
    "promote without removal": Edit(
        "promote", "leave(id, job)\n    to_ready(", "book(tenant_of(id), job.state, job, -1)\n    to_ready("
    ),
    "reclaim that forgets the doubt": Edit("reclaim", "add_doubt(id, job, '')", ""),
    "settle that books nothing": Edit("settle", "close_books()\nreturn", "return"),
}
TENANT_EDITS = {
    "one job's failures open the breaker": Edit("settle", "if state.failing ~= SEVERAL then", "if false then"),
    "the breaker counts in a row only": Edit("settle", "if ok + failed < volume then", "if true then"),
    "no job is ever alone": Edit(
        "settle", "return refused_ms and answers_of(state)[OK_AT] > refused_ms", "return false"
    ),
    "one throttled job freezes its tenant": Edit(
        "settle", "hold(state, effect == 'freeze' and THROTTLED or reason, PAUSE_MS)", "freeze(state, for_ms)"
    ),
    "no horizon in an outage": Edit("settle", "= state.hold, ARGV[base + 13] == '1'", "= state.hold, false"),
}
"""Of "one sale cannot stop its tenant"; `tests/integration/test_store_breaker.py` catches them."""
CONTENT_EDITS = {
    "settle that forgets a refusal": Edit("settle", "set_later_word(job, 'refused', integer(NOW_MS))", ""),
    "a dedupe key that changes in doubt": Edit("edit", "if new_key and job.ambiguous == '1' then", "if false then"),
    "doubt without its content": Edit("reclaim", "corrected or job.fingerprint", "job.fingerprint"),
    "a claim that takes the first content for the present one": Edit(
        "claim", "corrected or job.fingerprint", "job.fingerprint"
    ),
    "an edit that forgets a restore": Edit("edit", "if may_be_forgotten(job, restored[1]) then", "if false then"),
    "a claim that forgets a restore": Edit(
        "claim", "lease_end, token\n  carry_doubt(id, job, restored)", "lease_end, token"
    ),
}
"""Of the invariant "content truth"; `tests/integration/test_store_doubt.py` catches them."""
CLOCK_EDITS = {
    "retries that keep a clock's time": Edit(
        "promote", "'(' .. integer(NOW_MS), '+inf', 'WITHSCORES'", "'(inf', '+inf', 'WITHSCORES'"
    ),
    "turns that keep a clock's time": Edit("wake", "'(' .. integer(NOW_US + LOOK_AGAIN_US), '+inf'", "'(inf', '+inf'"),
    "leases that keep a clock's time": Edit(
        "reclaim", "key('in_flight'), '(' .. integer(NOW_MS + longest_ms), ", "key('in_flight'), '(inf', "
    ),
    "a budget that is never brought down": Edit("claim", "if tat > NOW_US + burst * rate_us then", "if false then"),
    "a freeze without its length": Edit("settle", "set(state, 'frozen_for',", "set(state, 'frozen_ms',"),
    "a late settler that holds its tenant": Edit("settle", "or job.token ~= token then", "then"),
}
"""Of the invariant "durations, not clocks"; `tests/integration/test_store_clock.py` catches them."""
BOOKS_OUTSIDE = "books written after the script"
CLEAN_DUPLICATE = "a clean duplicate taken for success"
OTHER_CONTENT = "an already exists that confirms other content"
KEY_IN_DOUBT = "a correction of the dedupe key in doubt"
"""Past both checks, the service's and the script's."""


def plant(name: str) -> Callable[[], None]:
    """Plant one bug in this process; return what takes it out again."""
    if name == BOOKS_OUTSIDE:
        return _plant_books_outside()
    if name == CLEAN_DUPLICATE:
        return _plant_success(Reason.UNVERIFIED_DUPLICATE)
    if name == OTHER_CONTENT:
        return _plant_success(Reason.DUPLICATE_DIFFERS)
    if name == KEY_IN_DOUBT:
        return _plant_key_in_doubt()
    return _plant_edit((EDITS | TENANT_EDITS | CONTENT_EDITS | CLOCK_EDITS)[name])


def _plant_edit(edit: Edit) -> Callable[[], None]:
    original = jobs.script
    edit.apply(original(edit.script))  # fails here, not where its effect is looked for

    def script(name: str) -> Script:
        return edit.apply(original(name)) if name == edit.script else original(name)

    jobs.script = script

    def take_out() -> None:
        jobs.script = original

    return take_out


def _plant_books_outside() -> Callable[[], None]:
    """The settle script leaves its sums aside, and the process writes them to the ledger a moment later."""
    keep = "redis.call('SET', PREFIX .. 'aside', cjson.encode(books))\nreturn"
    take_edit_out = _plant_edit(Edit("settle", "close_books()\nreturn", keep))
    original = AsyncJobStore.run_raw

    async def run_raw(self: AsyncJobStore, calls: Sequence[ScriptCall[Any]]) -> list[Any]:
        replies = await original(self, calls)
        if any(call.script.name == "settle" for call in calls):
            prefix = calls[0].prefix
            for tenant, fields in (json.loads(await self.client.get(f"{prefix}aside") or b"null") or {}).items():
                for field, delta in fields.items():
                    await self.client.hincrby(f"{prefix}ledger:{tenant}", field, delta)
        return replies

    AsyncJobStore.run_raw = run_raw  # type: ignore[method-assign]

    def take_out() -> None:
        take_edit_out()
        AsyncJobStore.run_raw = original  # type: ignore[method-assign]

    return take_out


def _plant_success(reason: Reason) -> Callable[[], None]:
    original = answers.TABLE
    success = Outcome(OutcomeKind.DELIVERED, Reason.CONFIRMED_DUPLICATE, 5, effect=TenantEffectKind.CLEAR)
    answers.TABLE = tuple(replace(row, outcome=success) if row.outcome.reason is reason else row for row in original)

    def take_out() -> None:
        answers.TABLE = original

    return take_out


def _plant_key_in_doubt() -> Callable[[], None]:
    original = desk_edit.DEDUPE_KEY
    desk_edit.DEDUPE_KEY = ()  # type: ignore[assignment]

    def take_out() -> None:
        desk_edit.DEDUPE_KEY = original

    return take_out


class HastyProducer(Producer):
    """Answers before it stores."""

    def enqueue_many(self, conversions: Iterable[Any], **options: Any) -> list[Receipt]:
        sales = list(conversions)
        storing = threading.Timer(LATER_S, self._store, (sales,))
        storing.daemon = True
        storing.start()
        return [
            Receipt(ReceiptStatus.ACCEPTED, "", sale["externalId"], sale["externalId"], State.READY) for sale in sales
        ]

    def _store(self, sales: list[Any]) -> None:
        super().enqueue_many(sales)


def _unguarded_duties() -> Callable[[], None]:
    """Every duty raises straight into the round, as if one guard held all of them."""
    original = loop.Maintenance._run

    def unguarded(self: loop.Maintenance, scheduled: loop._Scheduled) -> None:
        scheduled.duty.run_once(loop.Turn(scheduled.duty.share_s))  # type: ignore[attr-defined]

    return _replaced(loop.Maintenance, "_run", original, unguarded)


def _hasty_tenants() -> Callable[[], None]:
    """A tenants file applies as soon as it is seen, whatever it lost."""
    take_outs = [_replaced(tenants, name, getattr(tenants, name), 0.0) for name in ("RESTED_S", "RESTED_AFTER_LOSS_S")]

    def take_out() -> None:
        for one in take_outs:
            one()

    return take_out


def _log_without_thread() -> Callable[[], None]:
    """The thread that logs also writes, and gets the descriptor's errors."""

    def write(self: log_writer.LogWriter, text: str) -> int:
        return os.write(self._descriptor, text.encode())

    return _replaced(log_writer.LogWriter, "write", log_writer.LogWriter.write, write)


def _replaced(owner: Any, name: str, original: Any, planted: Any) -> Callable[[], None]:
    setattr(owner, name, planted)
    return lambda: setattr(owner, name, original)


PARTS = {
    "duties without a guard of their own": _unguarded_duties,
    "a tenants file that applies at once": _hasty_tenants,
    "a log written by the thread that logs": _log_without_thread,
}
"""Bugs of one part: each returns what takes it out again."""
