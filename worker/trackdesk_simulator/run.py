"""Runs a simulator in the foreground until SIGTERM or Ctrl-C."""

import asyncio
import signal
from collections.abc import Callable

from trackdesk_simulator.config import SimulatorConfig
from trackdesk_simulator.server import RunningSimulator, start_simulator


def run_simulator(config: SimulatorConfig, on_ready: Callable[[RunningSimulator], None]) -> None:
    """Serve until a signal; `on_ready` is called once connections are accepted.

    Raises what `start_simulator` raises. Must be called from the main thread.
    """
    asyncio.run(_serve(config, on_ready))


async def _serve(config: SimulatorConfig, on_ready: Callable[[RunningSimulator], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with await start_simulator(config) as simulator:
        on_ready(simulator)
        await stop.wait()
