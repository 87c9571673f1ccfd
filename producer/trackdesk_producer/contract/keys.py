"""Every Redis key of a deployment, built here and nowhere else.

All keys share one hash slot: they start with ``{<namespace>}:``. The Lua scripts name keys by this table
(`scripts.load_script`), so there is no second list to keep in step.

| name | type | what it holds |
|---|---|---|
| job:<id> | string | the job's record (`job.py`) |
| history:<id> | list | one JSON entry per attempt and operator's act, the newest last |
| ready:<tenant>:<class> | sorted set | ready jobs, by the time they became ready (µs) |
| turn | sorted set | tenants with ready jobs, by the time their next claim may come (µs) |
| tenant:<tenant> | hash | budget, freeze, hold, pause of one tenant |
| tenants | set | every tenant that ever had a job |
| scheduled | sorted set | jobs that wait for a time, by that time (ms) |
| retries | sorted set | those of them that wait for a duration, by its beginning (ms) |
| in_flight | sorted set | claimed jobs, by the end of their lease (ms) |
| places:<tenant> | sorted set | the same of one tenant: what counts against its requests in flight |
| longest_lease | integer | of any worker so far (ms): no lease ends further ahead |
| newer | sorted set | jobs whose record only a newer release can read, out of the way of this one, by when (ms) |
| dead | sorted set | dead letters, by the time they died (ms) |
| cause_numbers, causes | hash | cause (tenant, reason, HTTP status, currency, type) → its number, and back |
| cause_books | hash | "<number>:jobs", "<number>:<limb>" → dead letters of a cause, and their money |
| cause_of | hash | dead letter → number of its cause |
| cause:<number>:died | sorted set | dead letters of one cause, by the time they died (ms) |
| cause:<number>:amount | sorted set | the same, by amount; -1 without one |
| dead_references | sorted set | "<hash of cid or customerId><id>" of each dead letter, in the order of bytes |
| edited | hash | job that an operator corrected → fingerprint of its body now; the record keeps the shop's |
| ledger:<tenant> | hash | the books: jobs and money, by state (`ledger.py` of the worker) |
| moves | integer | grows with every change of the books |
| tombstones | sorted set | prune buckets, by the hour they fall due |
| tombstones:<hour> | list | ids of terminal jobs that leave in that hour |
| sequence | integer | source of fencing tokens and delivery tags |
| wakeups | list | the Celery queue: wake-ups only, they carry no data |
| workers | sorted set | workers by their last heartbeat (ms) |
| audit_log | list | operators' acts as JSON, each chained to the one before by hash, the newest last |
| audit_log_head | string | number of operators' acts and hash of the last |
| audit_log_waiting | list | acts that are done and not yet recorded; the first process to come moves them |
| audit_log_unreadable | list | acts that could not be put on record, as they waited; an audit names them |
| plans, plans_open | sorted set | plans, and those that have not ended, by the time they were made (ms) |
| plan:<plan> | hash | what a plan is: act, name, operator, state, times |
| plan_sums:<plan> | hash | its jobs and money: listed, done, by verdict, by reason, by tenant |
| plan_tenants:<plan> | set | tenants of which it has jobs to decide |
| plan_items:<plan>:pending:<tenant> | list | "<died ms> <id>" of jobs it has to decide |
| plan_items:<plan>:<done, skipped, refused> | list | "<ms> <verdict> <id>" of those that are decided |
| plans_unreadable | set | plans that are stored as something else, out of the way of the others; an audit names them |
| plans_forgotten | integer | plans that ended long ago and were removed |
| admission | string | present while enqueue must refuse (Redis is nearly full) |
"""

from dataclasses import dataclass

from trackdesk_producer.conversion.rules import check_namespace

NAMES = {
    "job": "job:",
    "history": "history:",
    "ready": "ready:",
    "turn": "turn",
    "tenant": "tenant:",
    "tenants": "tenants",
    "scheduled": "scheduled",
    "retries": "retries",
    "in_flight": "in_flight",
    "places": "places:",
    "longest_lease": "longest_lease",
    "newer": "newer",
    "dead": "dead",
    "cause_numbers": "cause_numbers",
    "causes": "causes",
    "cause_books": "cause_books",
    "cause_of": "cause_of",
    "cause": "cause:",
    "dead_references": "dead_references",
    "edited": "edited",
    "ledger": "ledger:",
    "moves": "moves",
    "tombstones": "tombstones",
    "tombstone_bucket": "tombstones:",
    "sequence": "sequence",
    "wakeups": "wakeups",
    "workers": "workers",
    "audit_log": "audit_log",
    "audit_log_head": "audit_log_head",
    "audit_log_waiting": "audit_log_waiting",
    "audit_log_unreadable": "audit_log_unreadable",
    "plans": "plans",
    "plans_open": "plans_open",
    "plan": "plan:",
    "plan_sums": "plan_sums:",
    "plan_tenants": "plan_tenants:",
    "plan_items": "plan_items:",
    "plans_unreadable": "plans_unreadable",
    "plans_forgotten": "plans_forgotten",
    "admission": "admission",
}


class _Single:
    """A key of which a namespace has exactly one."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._suffix = NAMES[name]

    def __get__(self, keys: "Keys", owner: type) -> str:
        return keys.prefix + self._suffix


@dataclass(frozen=True)
class Keys:
    """The keys of one namespace."""

    namespace: str = "trackdesk"

    turn = _Single()
    tenants = _Single()
    scheduled = _Single()
    retries = _Single()
    in_flight = _Single()
    newer = _Single()
    dead = _Single()
    cause_numbers = _Single()
    causes = _Single()
    cause_books = _Single()
    cause_of = _Single()
    dead_references = _Single()
    edited = _Single()
    moves = _Single()
    tombstones = _Single()
    wakeups = _Single()
    workers = _Single()
    audit_log = _Single()
    audit_log_head = _Single()
    audit_log_waiting = _Single()
    audit_log_unreadable = _Single()
    plans = _Single()
    plans_open = _Single()
    plans_unreadable = _Single()
    plans_forgotten = _Single()
    admission = _Single()
    sequence = _Single()

    def __post_init__(self) -> None:
        check_namespace(self.namespace)

    @property
    def prefix(self) -> str:
        """What every key of the namespace starts with."""
        return f"{{{self.namespace}}}:"

    def _key(self, name: str, rest: str = "") -> str:
        return self.prefix + NAMES[name] + rest

    def job(self, job_id: str) -> str:
        """Record of one job."""
        return self._key("job", job_id)

    def history(self, job_id: str) -> str:
        """Attempts and operators' acts of one job."""
        return self._key("history", job_id)

    def ready(self, tenant: str, job_class: str) -> str:
        """Ready jobs of one tenant and class."""
        return self._key("ready", f"{tenant}:{job_class}")

    def tenant(self, tenant: str) -> str:
        """Operational state of one tenant."""
        return self._key("tenant", tenant)

    def cause(self, number: str, order: str) -> str:
        """Dead letters of one cause, ordered by ``died`` or ``amount``."""
        return self._key("cause", f"{number}:{order}")

    def ledger(self, tenant: str) -> str:
        """Books of one tenant."""
        return self._key("ledger", tenant)

    def plan(self, plan_id: str) -> str:
        """What one plan is."""
        return self._key("plan", plan_id)

    def plan_sums(self, plan_id: str) -> str:
        """Jobs and money of one plan."""
        return self._key("plan_sums", plan_id)

    def plan_tenants(self, plan_id: str) -> str:
        """Tenants of which one plan has jobs to decide."""
        return self._key("plan_tenants", plan_id)

    def plan_items(self, plan_id: str, part: str) -> str:
        """Jobs of one plan: ``pending:<tenant>``, ``done``, ``skipped``, ``refused``, ``named``."""
        return self._key("plan_items", f"{plan_id}:{part}")

    def tombstone_bucket(self, hour: str) -> str:
        """Terminal jobs that leave in one hour."""
        return self._key("tombstone_bucket", hour)
