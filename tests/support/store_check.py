"""Walks a whole namespace and compares everything in it that must agree.

Written against the contract (`keys.py`, `job.py`), not against the scripts: it adds the books up from the records
themselves, so that a script which moves both wrongly in the same way is found too. Only for a store at rest.
"""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

from trackdesk_producer.contract.keys import NAMES, Keys
from trackdesk_producer.contract.record import JobClass, JobRecord, State, tenant_of
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, Money, parse_book

WAKEUPS_AT_MOST = 4
HISTORY_AT_MOST = 100
HOUR_MS = 3_600_000
PRUNED_EARLY = "would be pruned before it ended"


@dataclass
class Walk:
    """What a walk found."""

    records: dict[str, JobRecord] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    turns: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """One sentence per disagreement."""

    def in_state(self, state: State) -> set[str]:
        """Return the ids of the jobs in one state."""
        return {identity for identity, record in self.records.items() if record.state is state}


def check_store(store: JobStore) -> Walk:
    """Return the walk of a sound store; fail with every disagreement of an unsound one."""
    walk = walk_store(store)
    assert not walk.wrong, "\n".join(walk.wrong)
    return walk


def walk_store(store: JobStore, *, wakeups_at_most: int = WAKEUPS_AT_MOST) -> Walk:
    """Read every key of the namespace and note what disagrees."""
    content = _read_all(store)
    walk = Walk()
    _records(walk, content)
    _indexes(walk, content, store.keys)
    _tombstones(walk, content)
    _causes(walk, content)
    _edited(walk, content)
    _books(walk, content)
    _turns(walk, content)
    _wakeups(walk, content, wakeups_at_most)
    _histories(walk, content)
    return walk


def forget_store(store: JobStore) -> None:
    """Remove every key of the namespace: for tests that open many on one server."""
    names = list(store.client.scan_iter(match=f"{store.keys.prefix}*", count=1000))
    if names:
        store.client.unlink(*names)


_READERS: dict[bytes, tuple[Any, ...]] = {
    b"string": ("GET",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"list": ("LRANGE", 0, -1),
    b"hash": ("HGETALL",),
    b"set": ("SMEMBERS",),
}


def _read_all(store: JobStore) -> dict[str, Any]:
    """Return every key's value by its name without the prefix."""
    names = sorted(set(store.client.scan_iter(match=f"{store.keys.prefix}*", count=1000)))
    with store.client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.type(name)
        kinds = pipeline.execute()
        for name, kind in zip(names, kinds, strict=True):
            command, *rest = _READERS[kind]
            pipeline.execute_command(command, name, *rest)
        values = pipeline.execute()
    return {name.decode().removeprefix(store.keys.prefix): value for name, value in zip(names, values, strict=True)}


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the keys of one family, by what follows its name."""
    return {key.removeprefix(name): value for key, value in content.items() if key.startswith(name)}


def _scores(value: Any) -> dict[str, int]:
    """Return a sorted set's members and whole-number scores."""
    return {member.decode(): int(score) for member, score in value or []}


def _records(walk: Walk, content: dict[str, Any]) -> None:
    for identity, raw in _part(content, NAMES["job"]).items():
        record = JobRecord.parse(identity, raw)
        walk.records[identity] = record
        if record.state.terminal != raw.startswith(b"t"):
            walk.wrong.append(f"{identity} is {record.state} in the form of the other kind of record")
        if record.state.terminal and record.body:
            walk.wrong.append(f"{identity} has ended and still holds a body")
        if (record.token > 0) != (record.state is State.IN_FLIGHT):
            walk.wrong.append(f"{identity} is {record.state} with token {record.token}")
    tokens = Counter(record.token for record in walk.records.values() if record.token)
    walk.wrong += [f"{n} jobs in flight share token {token}" for token, n in tokens.items() if n > 1]


def _indexes(walk: Walk, content: dict[str, Any], keys: Keys) -> None:
    wanted: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for identity, record in walk.records.items():
        match record.state:
            case State.READY:
                wanted[f"{NAMES['ready']}{record.tenant}:{record.job_class}"][identity] = record.at
            case State.SCHEDULED | State.IN_FLIGHT:
                wanted[NAMES[record.state]][identity] = record.at
                if record.state is State.IN_FLIGHT:
                    wanted[f"{NAMES['places']}{record.tenant}"][identity] = record.at
            case State.DEAD:
                wanted[NAMES["dead"]][identity] = record.at
            case State.DELIVERED | State.CANCELLED | State.DISCARDED:
                pass
    single = {NAMES["scheduled"], NAMES["in_flight"], NAMES["dead"]}
    families = (NAMES["ready"], NAMES["places"])
    found = {name: _scores(value) for name, value in content.items() if name in single or name.startswith(families)}
    for name in wanted.keys() | found.keys():
        have, want = found.get(name, {}), wanted.get(name, {})
        for identity in sorted(have.keys() | want.keys()):
            if have.get(identity) != want.get(identity):
                walk.wrong.append(
                    f"index {name} holds {identity} at {have.get(identity)}, its record says {want.get(identity)}"
                )
        if name.startswith(NAMES["ready"]) and name.rpartition(":")[2] not in set(JobClass):
            walk.wrong.append(f"{name} is no class")

    waiting = walk.in_state(State.SCHEDULED)
    walk.wrong += [
        f"{identity} waits as a retry since {since} and is not scheduled, or for a time before that"
        for identity, since in _scores(content.get(NAMES["retries"])).items()
        if identity not in waiting or walk.records[identity].at < since
    ]


def _tombstones(walk: Walk, content: dict[str, Any]) -> None:
    due = _scores(content.get(NAMES["tombstones"]))
    filed: Counter[str] = Counter()
    for hour, ids in _part(content, NAMES["tombstone_bucket"]).items():
        if due.get(hour) != int(hour) or int(hour) % HOUR_MS:
            walk.wrong.append(f"prune bucket {hour} is not filed under its hour")
        for raw in ids:
            identity = raw.decode()
            filed[identity] += 1
            record = walk.records.get(identity)
            if record is not None and record.at > int(hour):
                walk.wrong.append(f"{identity} {PRUNED_EARLY}")
    ended = Counter({identity: 1 for identity, record in walk.records.items() if record.state.terminal})
    walk.wrong += [
        f"{identity} is {ended[identity]} times a tombstone and {filed[identity]} times filed for pruning"
        for identity in ended.keys() | filed.keys()
        if ended[identity] != filed[identity]
    ]


def _edited(walk: Walk, content: dict[str, Any]) -> None:
    for raw in content.get(NAMES["edited"], {}):
        record = walk.records.get(raw.decode())
        if record is None or record.state.terminal or not record.redrives:
            walk.wrong.append(f"{raw.decode()} counts as corrected and is no live job that was redriven")


def _causes(walk: Walk, content: dict[str, Any]) -> None:
    """Add the causes up from the records and histories, and compare every index and sum that is kept of them."""
    numbers = {name.decode(): number.decode() for name, number in content.get(NAMES["cause_numbers"], {}).items()}
    names = {number.decode(): name.decode() for number, name in content.get(NAMES["causes"], {}).items()}
    if names != {number: name for name, number in numbers.items()}:
        walk.wrong.append(f"causes {names} are not the numbers' {numbers}")
    said = {raw.decode(): n.decode() for raw, n in content.get(NAMES["cause_of"], {}).items()}
    cause_of, died, amounts, people = {}, defaultdict(dict), defaultdict(dict), set()  # type: ignore[var-annotated]
    jobs: Counter[str] = Counter()
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    for identity, record in walk.records.items():
        if record.state is not State.DEAD:
            continue
        body = json.loads(record.body)
        last = content.get(NAMES["history"] + identity, [b""])[-1]
        status = (json.loads(last).get("status") or "-") if last.startswith(b"{") else "-"
        kind = body["conversionTypeCode"]
        group = "\x1f".join((record.tenant, record.reason or "-", str(status), record.currency or "-"))
        number = numbers.get(f"{group}\x1f{kind}", f"(none for {group!r}, {kind!r})")
        others = numbers.get(f"{group}\x1f*")
        if others is not None and said.get(identity) == others:
            number = others  # buried when there were too many causes for one of its own
        cause_of[identity] = number
        died[f"{NAMES['cause']}{number}:died"][identity] = float(record.at)
        amount = -1.0 if record.amount is None else float(record.amount)
        amounts[f"{NAMES['cause']}{number}:amount"][identity] = amount
        jobs[number] += 1
        with localcontext(prec=60):
            money[number] += record.amount or 0
        for person in {"cid", "customerId"} & body.keys():
            people.add(hashlib.sha1(f"{person}\x1f{body[person]}".encode()).hexdigest()[:20] + identity)
    if said != cause_of:
        wrong = [
            (i, said.get(i), cause_of.get(i)) for i in said.keys() | cause_of.keys() if said.get(i) != cause_of.get(i)
        ]
        walk.wrong.append(f"cause_of and the records disagree on {sorted(wrong)[:10]}")
    if set(cause_of.values()) != names.keys():
        walk.wrong.append(
            f"causes kept and causes in use differ by {sorted(set(cause_of.values()) ^ names.keys())[:10]}"
        )
    kept = {
        name: {member.decode(): score for member, score in value}
        for name, value in content.items()
        if name.startswith(NAMES["cause"])
    }
    if kept != {**died, **amounts}:
        walk.wrong.append(f"the indexes of causes hold {kept}, the records say {dict(died)}, {dict(amounts)}")
    if {member.decode() for member, _ in content.get(NAMES["dead_references"], [])} != people:
        walk.wrong.append("dead_references do not lead to the dead letters' people")
    counted: Counter[str] = Counter()
    summed: defaultdict[str, Decimal] = defaultdict(Decimal)
    with localcontext(prec=60):
        for raw, value in content.get(NAMES["cause_books"], {}).items():
            number, _, column = raw.decode().partition(":")
            if column == "jobs":
                counted[number] = int(value)
            else:
                summed[number] += int(value) * Decimal(10) ** {"2": 9, "1": 0, "0": -9}[column]
    if counted != jobs or {n: s for n, s in summed.items() if s} != {n: s for n, s in money.items() if s}:
        walk.wrong.append(f"causes count {counted}, {summed}, the records {jobs}, {money}")


def _books(walk: Walk, content: dict[str, Any]) -> None:
    walk.books = {tenant: parse_book(raw) for tenant, raw in _part(content, NAMES["ledger"]).items()}
    known = {name.decode() for name in content.get(NAMES["tenants"], ())}
    accepting = {tenant for tenant, book in walk.books.items() if book.jobs["accepted"]}
    if known != accepting:
        walk.wrong.append(f"tenants names {sorted(known)}, books are kept of {sorted(accepting)}")
    jobs: defaultdict[str, Counter[str]] = defaultdict(Counter)
    money: defaultdict[str, defaultdict[str, Money]] = defaultdict(lambda: defaultdict(dict))
    with localcontext(prec=60):
        for identity, record in walk.records.items():
            tenant = tenant_of(identity)
            jobs[tenant][record.state] += 1
            if record.amount:
                sums = money[tenant][record.state]
                sums[str(record.currency)] = sums.get(str(record.currency), Decimal()) + record.amount
    for tenant in walk.books.keys() | jobs.keys():
        book = walk.books.get(tenant, Book())
        if book.residual_jobs or book.residual_money:
            walk.wrong.append(f"the books of {tenant} leave {book.residual_jobs} jobs, {book.residual_money}")
        walk.wrong += [f"{tenant} has {n} jobs under {column}" for column, n in book.jobs.items() if n < 0]
        for state in State:
            if book.jobs[state] != jobs[tenant][state]:
                walk.wrong.append(
                    f"the books of {tenant} hold {book.jobs[state]} {state}, the records {jobs[tenant][state]}"
                )
            if book.money.get(state, {}) != money[tenant][state]:
                walk.wrong.append(
                    f"the books of {tenant} hold {book.money.get(state)} {state}, records {money[tenant][state]}"
                )


def _turns(walk: Walk, content: dict[str, Any]) -> None:
    walk.turns = _scores(content.get(NAMES["turn"]))
    walk.paused = {name for name, state in _part(content, NAMES["tenant"]).items() if b"paused" in state}
    ready = {record.tenant for record in walk.records.values() if record.state is State.READY}
    walk.wrong += [f"{tenant} has ready jobs and no turn" for tenant in sorted(ready - walk.paused - walk.turns.keys())]


def _wakeups(walk: Walk, content: dict[str, Any], most: int) -> None:
    waiting = content.get(NAMES["wakeups"], [])
    if len(waiting) > most:
        walk.wrong.append(f"{len(waiting)} wake-ups wait")
    if len(set(waiting)) != len(waiting):
        walk.wrong.append("two wake-ups have one tag")


def _histories(walk: Walk, content: dict[str, Any]) -> None:
    for identity, entries in _part(content, NAMES["history"]).items():
        record = walk.records.get(identity)
        if record is None or record.state.terminal:
            walk.wrong.append(f"{identity} has a history and is no live job")
        if len(entries) > HISTORY_AT_MOST:
            walk.wrong.append(f"the history of {identity} has {len(entries)} entries")
