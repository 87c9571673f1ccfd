"""What makes sure that the store remembers, beyond having answered."""

from typing import Any

from redis.exceptions import RedisError

from trackdesk_producer.contract.runner import Command
from trackdesk_producer.errors import DurabilityNotMet
from trackdesk_producer.receipts import Durability


def confirmation(durability: Durability, *, replicas: int, timeout_s: float) -> list[Command]:
    """Return the command that waits for the level, on the connection that wrote.

    WAIT and WAITAOF do not block inside a script, so they follow it.
    """
    # The store answers before our own deadline does, so that the reply can say what was not met.
    wait_ms = max(1, int(timeout_s * 800))
    if durability is Durability.FSYNC:
        return [("WAITAOF", 1, 0, wait_ms)]
    if durability is Durability.REPLICATED:
        return [("WAIT", replicas, wait_ms)]
    return []


def check_durability(durability: Durability, reply: Any, *, replicas: int) -> None:
    """Read the reply to `confirmation`.

    Raises:
        DurabilityNotMet: with the reason; what was written is stored all the same.
    """
    if isinstance(reply, RedisError):
        raise DurabilityNotMet(
            f"stored, but the store cannot promise durability {durability.value!r}: {_refusal(reply)}"
        ) from reply
    match durability, reply:
        case Durability.FSYNC, [int(disks), *_]:
            if disks < 1:
                raise DurabilityNotMet("stored, but the store did not confirm its disk in time")
        case Durability.REPLICATED, int(confirmed):
            if confirmed < replicas:
                raise DurabilityNotMet(f"stored, but only {confirmed} of {replicas} replicas confirmed in time")
        case _:
            raise DurabilityNotMet(f"stored, but the store's reply is not a confirmation of {durability.value!r}")


def _refusal(reply: RedisError) -> str:
    said = str(reply)
    if "unknown command" in said:
        return "it needs Redis 7.2 or newer, or Valkey"
    if "appendonly" in said:
        return "its append-only file is off (appendonly no)"
    return said
