"""`make oracle SEED=1 LIVES=1000000`: world after world; the first that fails prints its shortest history.

python -m tests.support.oracle --seed 7 --lives 100000
python -m tests.support.oracle --seed 7 --world 3            # that world alone
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.oracle.clocked import ClockedRedis
from tests.support.oracle.judge import Violation
from tests.support.oracle.shrink import shrink
from tests.support.oracle.simulation import Report, Simulation
from tests.support.oracle.spec import FEATURES, WorldSpec, make_world
from tests.support.store import START_MS
from trackdesk_worker.local.embedded import EmbeddedServer

LIVES_A_WORLD = 20_000
REPORT_EVERY_S = 30.0
SHOWN = 20


def live(client: ClockedRedis, spec: WorldSpec) -> Report:
    """Live through a world; raise Violation."""
    return Simulation(client, spec).run()


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if every sale's end is the ledger's too, else 1."""
    parser = argparse.ArgumentParser(prog="oracle", description=__doc__)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--lives", type=int, default=LIVES_A_WORLD)
    parser.add_argument("--lives-a-world", type=int, default=LIVES_A_WORLD)
    parser.add_argument("--world", type=int, help="only this world of the seed")
    parser.add_argument("--without", default="", help=f"leave out some of {', '.join(FEATURES)}")
    options = parser.parse_args(arguments)
    features = frozenset(FEATURES) - frozenset(options.without.split(","))
    worlds = -(-options.lives // options.lives_a_world)
    chosen = range(worlds) if options.world is None else [options.world]
    total, began, reported = Report(), time.monotonic(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oracle") as directory:
        server = EmbeddedServer(Path(directory), config={"appendonly": "no", "save": ""})
        server.start()
        try:
            with ClockedRedis(port=server.port) as client:
                for number in chosen:
                    spec = make_world(f"{options.seed}/{number}", options.lives_a_world, features=features)
                    try:
                        total.add(live(client, spec))
                    except Violation as violation:
                        _explain(client, spec, violation)
                        return 1
                    if time.monotonic() - reported > REPORT_EVERY_S:
                        reported = time.monotonic()
                        print(f"{total.lives:,} lives, {total.lives / (reported - began):,.0f} a second", flush=True)
        finally:
            server.stop()
    took_s = time.monotonic() - began
    print(f"seed {options.seed}: {total.lives:,} lives in {took_s / 60:.1f} minutes, no fault found")
    print(f"  requests {total.requests:,}, rows {total.rows:,}, claims {total.claims:,}, checks {total.checks:,}")
    print(f"  longest wait of a plain sale {total.longest_wait_ms / 1000:,.0f} s of virtual time")
    for name in ("settled", "episodes", "fates", "acts", "happenings", "excused", "states"):
        print(f"  {name}: " + ", ".join(f"{what or 'none'} {n:,}" for what, n in getattr(total, name).most_common()))
    return 0


def _explain(client: ClockedRedis, spec: WorldSpec, violation: Violation) -> None:
    print(f"world {spec.seed} fails: {violation}", flush=True)

    def fails(smaller: WorldSpec) -> Violation | None:
        try:
            live(client, smaller)
        except Violation as found:
            return found
        return None

    small, found = shrink(spec, violation, fails)
    print(f"shortest history found, {len(small.lives)} sales: {found}")
    for happening in small.happenings:
        print(f"  {happening}")
    for life in small.lives[:SHOWN]:
        print(f"  {life}")
    if found.life is not None:
        print(found.life.history(START_MS))


if __name__ == "__main__":
    sys.exit(main())
