"""Waking a delivery loop from other threads."""

import asyncio
from typing import Any, cast

from trackdesk_worker.delivery.loop import DeliveryLoop

NOTHING = cast("Any", None)


async def _made() -> DeliveryLoop:
    return DeliveryLoop(
        store=NOTHING,
        attempts=NOTHING,
        config=NOTHING,
        metrics=NOTHING,
        health=NOTHING,
        log=NOTHING,
    )


def test_a_loop_that_has_ended_may_still_be_woken_and_stopped() -> None:
    ended = asyncio.run(_made())

    ended.wake()
    ended.stop_claiming()
