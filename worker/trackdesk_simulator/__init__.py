"""A local Trackdesk for demos, tests and trials. Not for production: it fails in every way on purpose.

It answers the conversion endpoint as Trackdesk's guide, help centre and public API document describe it, and
reads as loosely as its gateway probably does; whatever is unknown is a setting. Its ledger is the judge of
what was recorded, whatever a worker reports.

    async with await start_simulator(SimulatorConfig(profile="all-500")) as simulator:
        post_to(simulator.url("acme"))  # or give a worker simulator.base_url
        assert simulator.ledger.exactly_once(["order-1"]).ok
"""

from trackdesk_simulator.clock import Clock, ManualClock, SystemClock
from trackdesk_simulator.config import (
    Click,
    ClickState,
    ConversionType,
    Faults,
    KeyMode,
    LimitKind,
    Outage,
    ProblemAnswer,
    Profile,
    RateLimit,
    SimulatorConfig,
    TenantConfig,
)
from trackdesk_simulator.ledger import ExactlyOnce, Ledger, LedgerFileError, LedgerRow
from trackdesk_simulator.problems import BusinessError
from trackdesk_simulator.run import run_simulator
from trackdesk_simulator.server import RunningSimulator, start_simulator
from trackdesk_simulator.stats import Stats

__all__ = [
    "BusinessError",
    "Click",
    "ClickState",
    "Clock",
    "ConversionType",
    "ExactlyOnce",
    "Faults",
    "KeyMode",
    "Ledger",
    "LedgerFileError",
    "LedgerRow",
    "LimitKind",
    "ManualClock",
    "Outage",
    "ProblemAnswer",
    "Profile",
    "RateLimit",
    "RunningSimulator",
    "SimulatorConfig",
    "Stats",
    "SystemClock",
    "TenantConfig",
    "run_simulator",
    "start_simulator",
]
