"""Operators' plans go on: their lists are made, their jobs decided, and what they did goes into the audit log."""

from typing import ClassVar

from trackdesk_worker.maintenance.duty import Duty, DutyContext, Turn
from trackdesk_worker.store import plans
from trackdesk_worker.telemetry.labels import DutyName

LOOKED_AT_ONCE = 20


class DrivePlans(Duty):
    """Takes every open plan a step further, and again while there is time."""

    name: ClassVar = DutyName.PLANS

    def __init__(self, context: DutyContext, rate_us: int) -> None:
        """`rate_us`: the time between two requests of tenants without a pace of their own."""
        super().__init__(context)
        self._rate_us = rate_us
        self._last = ""

    def run_once(self, turn: Turn) -> None:
        """Drive the plans."""
        driven = plans.drive(self._store, rate_us=self._rate_us, over=turn.over, behind=self._last)
        self._last = driven.last
        if driven.moved:
            self._log.info("maintenance.plans", jobs=driven.moved)
        for plan_id, problem in driven.problems.items():
            self._log.error("maintenance.plan_stopped", plan=plan_id, detail=problem)


class RecordActs(Duty):
    """Moves what plans and operators did from the waiting list into the audit log."""

    name: ClassVar = DutyName.AUDIT_LOG

    def run_once(self, turn: Turn) -> None:
        """Record what waits."""
        if aside := plans.record_acts(self._store):
            self._log.error(
                "maintenance.acts_set_aside", acts=aside, detail=f"kept in {self._store.keys.audit_log_unreadable}"
            )


class PrunePlans(Duty):
    """Forgets plans that ended long ago, and gives up those that nobody started."""

    name: ClassVar = DutyName.PRUNE_PLANS
    every_s: ClassVar = 2.0

    def run_once(self, turn: Turn) -> None:
        """Forget what is over."""
        skip: int | None = 0
        while skip is not None:
            skip = plans.prune(self._store, LOOKED_AT_ONCE, skip=skip).skip
            if turn.over():
                return
