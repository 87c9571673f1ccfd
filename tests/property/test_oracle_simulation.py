"""The seeded simulation: its smoke share; a seed lives the same again; each planted bug is caught and cut down.

`make oracle SEED=7 LIVES=100000` is the long run.
"""

from collections.abc import Iterator

import pytest

from tests.support.oracle.__main__ import live, main
from tests.support.oracle.clocked import ClockedRedis
from tests.support.oracle.judge import Violation
from tests.support.oracle.shrink import shrink
from tests.support.oracle.spec import FEATURES, WorldSpec, make_world
from tests.support.planted import CLEAN_DUPLICATE, KEY_IN_DOUBT, OTHER_CONTENT, plant
from trackdesk_worker.local.embedded import EmbeddedServer

SMOKE_LIVES = 1_500
WORLDS, WORLD_LIVES = 6, 400
"""In which a planted bug must show itself."""
FORGOTTEN_RESTORE = "a claim that forgets a restore"
BUGS = (
    "reclaim that forgets the doubt",
    "settle that books nothing",
    "settle that forgets a refusal",
    "a claim that takes the first content for the present one",
    FORGOTTEN_RESTORE,
    CLEAN_DUPLICATE,
    OTHER_CONTENT,
    KEY_IN_DOUBT,
)
"""Those of which the ledger shows the harm; others are caught where they are (`tests/chaos/test_planted_bugs.py`)."""


@pytest.fixture
def clocked(valkey: EmbeddedServer) -> Iterator[ClockedRedis]:
    with ClockedRedis(port=valkey.port) as client:
        yield client


def fails(client: ClockedRedis, spec: WorldSpec) -> Violation | None:
    try:
        live(client, spec)
    except Violation as violation:
        return violation
    return None


def worlds(seed: str, features: frozenset[str]) -> Iterator[WorldSpec]:
    for number in range(WORLDS):
        yield make_world(f"{seed}/{number}", WORLD_LIVES, features=features, plain=0)


@pytest.mark.timeout(300)
def test_every_end_of_a_sale_is_the_ledgers_too(clocked: ClockedRedis) -> None:
    report = live(clocked, make_world("smoke", SMOKE_LIVES))
    assert report.lives == SMOKE_LIVES
    assert report.requests > report.rows > SMOKE_LIVES / 2
    assert {"deliver paired", "deliver confirmed_duplicate", "bury unverified_duplicate"} <= report.settled.keys()


@pytest.mark.timeout(300)
def test_a_seed_always_lives_through_the_same(clocked: ClockedRedis) -> None:
    spec = make_world("twice", 200)
    assert live(clocked, spec) == live(clocked, spec)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
def test_the_oracle_catches(bug: str, clocked: ClockedRedis) -> None:
    features = frozenset({"operators", "fates"} | ({"restore"} if bug == FORGOTTEN_RESTORE else set()))
    take_out = plant(bug)
    try:
        found = next(filter(None, (fails(clocked, spec) for spec in worlds(bug, features))), None)
    finally:
        take_out()
    assert found is not None


@pytest.mark.timeout(300)
def test_a_failing_world_is_cut_down_to_one_sale_and_its_history(clocked: ClockedRedis) -> None:
    take_out = plant(KEY_IN_DOUBT)
    try:
        specs = worlds("short", frozenset({"operators", "fates"}))
        spec, violation = next((spec, found) for spec in specs if (found := fails(clocked, spec)))
        small, found = shrink(spec, violation, lambda smaller: fails(clocked, smaller), within_s=60)
    finally:
        take_out()
    (life,) = small.lives
    assert found.kind == "paid twice"
    assert [act.what for act in life.acts] == ["edit"]
    assert len(life.episodes) <= 2
    assert fails(clocked, small) is None, "without the bug the same history is sound"


def test_a_seed_without_a_fault_ends_with_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "figures", "--lives", "100", "--lives-a-world", "100", "--without", ",".join(FEATURES)]) == 0
    assert "100 lives" in capsys.readouterr().out
