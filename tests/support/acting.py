"""Redriving and discarding at once, through the only way there is: small plans, driven to their end."""

from collections.abc import Sequence
from itertools import count

from trackdesk_worker.store import plans
from trackdesk_worker.store.job_store import JobStore

AT_ONCE = 50
"""Jobs a plan moves without regard to the budget."""
_numbers = count(1)


def act_now(
    store: JobStore,
    act: str,
    ids: Sequence[str],
    *,
    window_ms: int = 3_600_000,
    note: str = '{"kind":"redrive"',
    now_ms: int | None = None,
) -> list[str]:
    """Return a verdict per id: ``redriven``, ``discarded``, ``unknown``, ``refused:<state>``. Leaves no plan behind."""
    replies: list[str] = []
    for start in range(0, len(ids), AT_ONCE):
        replies += _act(store, act, ids[start : start + AT_ONCE], window_ms, note, now_ms)
    return replies


def _act(store: JobStore, act: str, ids: Sequence[str], window_ms: int, note: str, now_ms: int | None) -> list[str]:
    plan = f"plan-now-{next(_numbers)}"
    fields = {"act": act, "window_ms": str(window_ms), "limit": ""}
    assert plans.create(store, plan, fields, ids, entry="{}", now_ms=now_ms)
    while plans.step(store, plan, rate_us=0, now_ms=now_ms).state == "listing":
        pass
    assert plans.transition(store, plan, "start", entry="{}", note=note, now_ms=now_ms) == "ok"
    while (did := plans.step(store, plan, rate_us=0, now_ms=now_ms)).state != "finished":
        assert did.moved, f"{plan} makes no progress with {did.left} jobs left"
    keys = store.keys
    verdicts: dict[str, list[str]] = {}
    for part in ("refused", "done", "skipped"):
        for entry in store.client.lrange(keys.plan_items(plan, part), 0, -1):
            _, verdict, identity = entry.decode().split(" ", 2)
            said = verdict.replace("refused:unknown", "unknown").replace("skipped", "refused")
            verdicts.setdefault(identity, []).append(said)
    (found,) = plans.read_fields(store, [plan])
    assert found is not None
    sums = found[1]
    assert sum(plans.verdicts_of(sums).values()) == sums.jobs["listed"] == len(ids)
    parts = [keys.plan_items(plan, part) for part in ("done", "skipped", "refused", "named")]
    store.client.delete(
        *parts,
        keys.plan(plan),
        keys.plan_sums(plan),
        keys.plan_tenants(plan),
        keys.audit_log_waiting,
    )
    store.client.zrem(keys.plans, plan)
    # A job that was named twice moved once: the done part comes before the skipped one.
    return [verdicts[identity].pop(0) for identity in ids]
