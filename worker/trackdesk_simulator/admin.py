"""The simulator's own HTTP face under `/_simulator/`, for tests and people in another process. All JSON."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from trackdesk_simulator.config import explain
from trackdesk_simulator.engine import Engine

PREFIX: Final = "/_simulator/"
PAGE_ROWS: Final = 1_000


def answer_admin(engine: Engine, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
    """Serve one request; returns the status and the JSON body.

    `GET ledger` (`?tenant=`, `?external_id=`, `?offset=`, `?limit=`, `?format=ids`), `GET stats`
    (`?arrivals=1`, `?tenant=`, `?admitted=1` with them), `GET config`, `PUT config` (a JSON merge patch),
    `POST reset`.
    """
    params = {name: values[-1] for name, values in parse_qs(query).items()}
    match method, path.removeprefix(PREFIX).rstrip("/"):
        case "GET", "ledger":
            return _ledger(engine, params)
        case "GET", "stats":
            return 200, _dump(stats_json(engine, params))
        case "GET", "config":
            return 200, engine.config.model_dump_json().encode()
        case "PUT", "config":
            return _configure(engine, body)
        case "POST", "reset":
            engine.reset()
            return 200, _dump({"reset": True})
        case _, "ledger" | "stats" | "config" | "reset":
            return 405, _dump({"error": f"{method} is not served here"})
        case _, name:
            return 404, _dump({"error": f"there is no {name!r}; try ledger, stats, config or reset"})


def stats_json(engine: Engine, params: Mapping[str, str]) -> dict[str, Any]:
    """Return all counters as plain values, with the arrival times if `params` asks for them."""
    tenants = engine.tenants.values()
    answer: dict[str, Any] = {
        **engine.stats.as_json(),
        "rate_limited": sum(tenant.stats.rate_limited for tenant in tenants),
        "lockouts": sum(tenant.lockouts for tenant in tenants),
        "rows": len(engine.ledger),
        "duplicates_refused": engine.ledger.duplicates_refused,
        "tenants": {tenant.name: tenant.stats.as_json(lockouts=tenant.lockouts) for tenant in tenants},
    }
    if "arrivals" in params:
        answer["arrivals"] = engine.stats.arrival_times(tenant=params.get("tenant"), admitted="admitted" in params)
    return answer


def _ledger(engine: Engine, params: Mapping[str, str]) -> tuple[int, bytes]:
    ledger = engine.ledger
    tenant = params.get("tenant")
    if params.get("format") == "ids":
        return 200, _dump({"ids": ledger.ids(tenant=tenant)})
    try:
        offset, limit = int(params.get("offset", 0)), int(params.get("limit", PAGE_ROWS))
    except ValueError:
        offset = limit = -1
    if offset < 0 or limit < 0:
        return 400, _dump({"error": "offset and limit are numbers from 0 up"})
    wanted = params.get("external_id")
    rows = [
        row
        for row in ledger
        if (tenant is None or row.tenant == tenant) and (wanted is None or row.external_id == wanted)
    ]
    return 200, _dump(
        {
            "count": len(rows),
            "rows": [row.as_json() for row in rows[offset : offset + limit]],
            "totals": {code: str(total) for code, total in ledger.totals(tenant=tenant).items()},
            "duplicates_refused": ledger.duplicates_refused,
        }
    )


def _configure(engine: Engine, body: bytes) -> tuple[int, bytes]:
    try:
        patch = json.loads(body)
    except (ValueError, RecursionError):
        return 400, _dump({"error": "the body is not JSON"})
    if not isinstance(patch, dict):
        return 400, _dump({"error": "the body is not a JSON object"})
    try:
        engine.configure(engine.config.patched(patch))
    except ValueError as error:
        return 400, _dump({"error": explain(error)})
    return 200, engine.config.model_dump_json().encode()


def _dump(data: Any) -> bytes:
    return json.dumps(data).encode()
