"""What the client gets to see: the replies and their bodies, by response profile."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from trackdesk_simulator.config import Profile, TenantConfig
from trackdesk_simulator.problems import GATEWAY_STATUS
from trackdesk_simulator.rules import Refusal

JSON_TYPE: Final = "application/json"
HTML_TYPE: Final = "text/html"
WEB_APP: Final = (
    b"<!doctype html><html><head><title>Trackdesk</title></head>"
    b'<body><div id="root"></div><script src="/assets/app.js"></script></body></html>'
)


class Delivery(StrEnum):
    """How the reply travels back."""

    SEND = "send"
    SLOW = "slow"
    DROP = "drop"
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server is to do. `wait_s` passes before it (in the middle of the body for a slow one)."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    retry_after_s: int | None = None
    delivery: Delivery = Delivery.SEND
    wait_s: float = 0.0


def success(cid: str) -> Reply:
    """The conversion was recorded; an empty cid says that it was not paired."""
    return Reply(200, json.dumps({"cid": cid}).encode())


def refusal(config: TenantConfig, refused: Refusal) -> Reply:
    """Word a refusal as the tenant's response profile wants it."""
    code, message = config.answer_for(refused.problem)
    text = message if refused.detail is None else refused.detail
    body = json.dumps({"code": code, "message": text, "details": []}).encode()
    match config.profile:
        case Profile.GATEWAY:
            return Reply(GATEWAY_STATUS[code], body)
        case Profile.ALL_400:
            return Reply(400, body)
        case Profile.ALL_500:
            return Reply(500, body)
        case Profile.EMPTY_BODY:
            return Reply(GATEWAY_STATUS[code], b"")
        case _:
            assert_never(config.profile)


def proxy_error(status: int) -> Reply:
    """An error page of something in front of Trackdesk."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return Reply(status, page.encode(), HTML_TYPE)


def dropped() -> Reply:
    """The connection is aborted."""
    return Reply(0, b"", delivery=Delivery.DROP)


def hung(wait_s: float) -> Reply:
    """Nothing is answered; the connection is aborted after a while."""
    return Reply(0, b"", delivery=Delivery.HANG, wait_s=wait_s)
