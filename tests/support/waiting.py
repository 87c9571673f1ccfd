"""Waiting in tests: for a condition, with a deadline. ruff refuses `time.sleep` and `asyncio.sleep` everywhere else."""

import asyncio
import time
from collections.abc import Callable


def comes(condition: Callable[[], bool], *, within_s: float, poll_s: float = 0.02) -> bool:
    """Wait for a condition; return whether it came."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


def wait_until(
    condition: Callable[[], bool], what: str | Callable[[], str], *, within_s: float = 30, poll_s: float = 0.02
) -> None:
    """Wait for a condition; fail, naming it, when it does not come."""
    if not comes(condition, within_s=within_s, poll_s=poll_s):
        raise AssertionError(f"{what if isinstance(what, str) else what()}: not within {within_s:g} s")


async def until(condition: Callable[[], bool], what: str, *, within_s: float = 30, poll_s: float = 0.01) -> None:
    """Wait for a condition while the event loop goes on; fail, naming it, when it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_s:g} s")
        await asyncio.sleep(poll_s)


def let_pass(seconds: float) -> None:
    """Let time pass, where time itself is what is tested: a slow caller, a pace, a limit that ends."""
    time.sleep(seconds)


async def let_pass_async(seconds: float) -> None:
    """Let time pass while the event loop goes on, where time itself is what is tested."""
    await asyncio.sleep(seconds)


async def let_loop_turn(times: int) -> None:
    """Let the event loop's other tasks go on, so many steps."""
    for _ in range(times):
        await asyncio.sleep(0)
