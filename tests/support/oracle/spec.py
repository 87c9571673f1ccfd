"""What happens in one seeded world, as plain data: so that a failing one can be cut down to what matters."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.support.oracle.answers import ABOUT_THE_TENANT, FATES, ONE_JOB_ALONE, REFUSED, UNPAIRED, UNSURE, Episode
from tests.support.oracle.world import Tenant
from tests.support.simulator import sale

HOUR_MS = 3_600_000
TENANTS, PLAIN = 60, 0.5
CURRENCIES = ("EUR", "USD", "JPY")
FEATURES = ("poison", "clocks", "restore", "outages", "operators", "fates")
"""What a run may leave out."""


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator does with a dead letter, and how long after its death."""

    what: str
    """redrive, discard, or edit."""
    after_ms: int
    changes: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class LifeSpec:
    """One sale: what the shop does, what becomes of each claim, what an operator does at each death."""

    number: int
    tenant: str
    at_ms: int
    sale: Mapping[str, Any]
    wait_ms: int = 0
    """How long the shop wants it to wait."""
    foreign: str = ""
    """"pixel": another system recorded the externalId with other money; "offer": the offer refuses it as a repeat."""
    episodes: tuple[Episode, ...] = ()
    acts: tuple[Act, ...] = ()
    shop: tuple[tuple[int, str], ...] = ()
    """When the shop does what more: repeat, conflict, cancel."""
    poison: str = ""
    """What Trackdesk always answers to this one sale."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that is about more than one sale."""

    at_ms: int
    what: str
    """worker dies, store ahead, worker ahead, outage, pause, back up, restore, prune."""
    whom: str = ""
    lasts_ms: int = 0
    by_ms: int = 0


@dataclass(frozen=True, slots=True)
class WorldSpec:
    """One world, complete: the same spec always lives through the same."""

    seed: str
    tenants: tuple[Tenant, ...]
    lives: tuple[LifeSpec, ...]
    happenings: tuple[Happening, ...] = ()


def make_world(
    seed: str, lives: int, *, features: frozenset[str] = frozenset(FEATURES), plain: float = PLAIN
) -> WorldSpec:
    """Return the world of a seed; to the share `plain` of its sales nothing happens but what happens to others."""
    rng = random.Random(seed)
    profiles = ["gateway", "gateway", "all-400", "empty-body"] + ["all-500"] * ("poison" in features)
    tenants = tuple(
        Tenant(
            f"t{place}",
            network=place % 3 == 1,
            strict=place % 3 == 2,
            profile=rng.choice(profiles),
            by_type=rng.random() < 0.25,
            rate_per_s=rng.choice([0, 0, 0, 20]),
        )
        for place in range(TENANTS)
    )
    span_ms = max(60_000, lives * 50)
    made = tuple(
        _life(random.Random(f"{seed}/{number}"), number, rng.choice(tenants), span_ms, features, plain)
        for number in range(lives)
    )
    return WorldSpec(seed, tenants, made, _happenings(rng, tenants, span_ms, features))


def _life(
    rng: random.Random, number: int, tenant: Tenant, span_ms: int, features: frozenset[str], plain: float
) -> LifeSpec:
    currency = rng.choice(CURRENCIES)
    kind = rng.choice(["sale", "sale", "sale", "purchase", "lead"])
    changes: dict[str, Any] = {
        "conversionTypeCode": kind,
        "amount": {"value": _amount(rng, currency)},
        "currency": {"code": currency},
    }
    if tenant.network or rng.random() < 0.1:
        changes["revenueOriginId"] = rng.choice(["r-1", "r-2"])
    if kind == "lead" and rng.random() < 0.5:
        changes |= {"amount": None, "currency": None}
    spec = LifeSpec(number, tenant.name, rng.randrange(span_ms), sale(f"o-{number}", **changes))
    if rng.random() < plain:
        return spec
    if rng.random() < 0.05:
        spec = replace(spec, wait_ms=rng.choice([1_000, 60_000, 5 * HOUR_MS]))
    if rng.random() < 0.06:
        spec = replace(spec, foreign=rng.choice(["pixel", "offer"]))
    if "poison" in features and rng.random() < 0.004:
        return replace(spec, poison=rng.choice(ONE_JOB_ALONE))
    episodes = tuple(_episode(rng, features) for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4, 6, 9])))
    acts = tuple(_act(rng, currency) for _ in range(rng.choice([0, 1, 1, 2, 3]))) if "operators" in features else ()
    shop = tuple(
        (rng.choice([0, 500, 20_000, HOUR_MS, 4 * HOUR_MS]), rng.choice(["repeat", "repeat", "conflict", "cancel"]))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    )
    return replace(spec, episodes=episodes, acts=acts, shop=shop)


def _amount(rng: random.Random, currency: str) -> str:
    if rng.random() < 0.1:
        return rng.choice(["0", "1", "999999999999", "0.5" if currency != "JPY" else "5", "100.505"])
    return str(rng.randrange(1, 100_000)) + ("" if currency == "JPY" else f".{rng.randrange(100):02}")


def _episode(rng: random.Random, features: frozenset[str]) -> Episode:
    roll = rng.random()
    if roll < 0.45:
        return Episode(rng.choice(list(UNSURE)), commit=rng.random() < 0.5)
    if roll < 0.75:
        answer = rng.choice(list(REFUSED))
        if answer in ABOUT_THE_TENANT and rng.random() < 0.7:
            answer = "400 silent"  # each of them stops its tenant for a minute; there are other rows to see
        return Episode(answer, commit=False)
    if roll < 0.8:
        return Episode(rng.choice(list(UNPAIRED)))
    if roll < 0.92 and "fates" in features:
        answer = rng.choice(["", *UNSURE])
        return Episode(answer, commit=not answer or rng.random() < 0.5, fate=rng.choice(FATES))
    return Episode()


def _act(rng: random.Random, currency: str) -> Act:
    after_ms = rng.choice([1_000, 60_000, HOUR_MS])
    roll = rng.random()
    if roll < 0.6:
        return Act("redrive", after_ms)
    if roll < 0.7:
        return Act("discard", after_ms)
    change = rng.choice(
        [
            ("amount.value", _amount(rng, currency)),
            ("amount.value", _amount(rng, currency)),
            ("currency.code", rng.choice(CURRENCIES)),
            ("conversionTypeCode", rng.choice(["sale", "purchase", "lead"])),
            ("revenueOriginId", rng.choice(["r-1", "r-2", "r-3"])),
            ("cid", "7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c12"),
        ]
    )
    return Act("edit", after_ms, (change,))


def _happenings(
    rng: random.Random, tenants: tuple[Tenant, ...], span_ms: int, features: frozenset[str]
) -> tuple[Happening, ...]:
    found = [Happening(at_ms, "prune") for at_ms in range(0, 4 * span_ms, max(span_ms // 4, HOUR_MS))]

    def some(most: int) -> list[int]:
        return [rng.randrange(span_ms) for _ in range(rng.randrange(most + 1))]

    if "fates" in features:
        found += [Happening(at_ms, "worker dies", str(rng.randrange(3))) for at_ms in some(4)]
    if "outages" in features:
        for at_ms in some(3):
            answer = rng.choice(["503 page", "401 page", "403 code 7", "timeout", "connect error", "429", "404 page"])
            lasts = rng.choice([5_000, 60_000, 900_000])
            found.append(Happening(at_ms, f"outage:{answer}", rng.choice(tenants).name, lasts))
        found += [Happening(at_ms, "pause", rng.choice(tenants).name, 600_000) for at_ms in some(2)]
    if "clocks" in features:
        for at_ms in some(1):
            by_ms = rng.choice([2 * HOUR_MS, -2 * HOUR_MS, 60_000, -60_000])
            found.append(Happening(at_ms, "store ahead", "", rng.choice([1_000, 120_000]), by_ms))
        for at_ms in some(2):
            by_ms = rng.choice([24 * HOUR_MS, -700_000, 5_000])
            found.append(Happening(at_ms, "worker ahead", str(rng.randrange(3)), rng.choice([60_000, HOUR_MS]), by_ms))
    if "restore" in features and rng.random() < 0.25:
        at_ms = rng.randrange(span_ms)
        found += [Happening(at_ms, "back up"), Happening(at_ms + rng.choice([1_000, 60_000, HOUR_MS]), "restore")]
    return tuple(sorted(found, key=lambda happening: happening.at_ms))
