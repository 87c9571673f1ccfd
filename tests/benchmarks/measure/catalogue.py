"""Every scenario with its figures, their units and the targets they are held to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.benchmarks.measure import bulk, deliver, desk, enqueue, flatness, floor, idle, memory
from tests.benchmarks.measure.figures import FigureSpec, Runs, at_least, at_most
from tests.benchmarks.measure.rig import Rig


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario."""

    about: str
    measure: Callable[[Rig, int], Runs]
    figures: Mapping[str, FigureSpec]
    """By name; a name that ends in … covers all figures that begin so."""
    short_runs: int = 3
    """Runs at most, in short; 0 leaves it out."""

    def runs(self, wanted: int, *, short: bool) -> int:
        """Return how often it is run."""
        return min(wanted, self.short_runs) if short else wanted

    def spec(self, name: str) -> FigureSpec:
        """Return what a figure of this scenario is held to."""
        if name in self.figures:
            return self.figures[name]
        starts = (known for known in self.figures if known.endswith("…") and name.startswith(known[:-1]))
        return self.figures[next(starts)]


PER_S, MICROS, RATIO = FigureSpec("/s"), FigureSpec("µs"), FigureSpec("×")
FLAT = FigureSpec("×", at_most(1.1))
COSTS = {
    **{f"{operation}, highest to first": FLAT for operation in flatness.OPERATIONS},
    **{f"{operation}, {flatness.SAME_SPREAD}": FLAT for operation in flatness.OPERATIONS},
    **{f"{operation}, …": MICROS for operation in flatness.OPERATIONS},
}

SCENARIOS: Mapping[str, Scenario] = {
    "floor": Scenario(
        "the HTTP client alone, and Redis alone",
        floor.measure,
        {
            "requests": PER_S,
            "client CPU": MICROS,
            "client CPU of a SET": MICROS,
            "server CPU of a SET": MICROS,
            "Redis round trip": MICROS,
        },
    ),
    "deliver": Scenario(
        "one worker process, 256 in flight, answers after 100 ms",
        deliver.measure,
        {
            "deliveries": FigureSpec("/s", at_least(1800)),
            "worker CPU": FigureSpec("µs", at_most(300)),
            "Redis CPU": MICROS,
            "bare client CPU": MICROS,
            "worker CPU to bare client": RATIO,
        },
    ),
    "deliver-2": Scenario(
        "two worker processes against one",
        deliver.measure_two,
        {
            "deliveries of one": PER_S,
            "deliveries of two": PER_S,
            "two to one": FigureSpec("×", at_least(1.5)),
            "worker CPU of two": MICROS,
            "Redis CPU of two": MICROS,
        },
        2,
    ),
    "enqueue": Scenario(
        "enqueue_many, and one enqueue against a bare Redis round trip",
        enqueue.measure,
        {
            "enqueue_many": FigureSpec("/s", at_least(40_000)),
            "producer CPU": MICROS,
            "Redis CPU": MICROS,
            "one enqueue": MICROS,
            "Redis round trip": MICROS,
            "one enqueue to round trip": FigureSpec("×", at_most(1.5)),
        },
    ),
    "enqueue-fsync": Scenario(
        "16 producers at once, durable against not",
        enqueue.measure_durable,
        {
            "16 producers, memory": PER_S,
            "16 producers, fsync (everysec)": PER_S,
            "16 producers, fsync (always)": PER_S,
            "fsync to memory (everysec)": RATIO,
            "fsync to memory (always)": FigureSpec("×", at_least(0.6)),
        },
        2,
    ),
    "memory": Scenario(
        "Redis memory of a job",
        memory.measure,
        {
            "ready job": FigureSpec("bytes"),
            "ready job above payload": FigureSpec("bytes", at_most(350)),
            "tombstone": FigureSpec("bytes", at_most(130)),
        },
        1,
    ),
    "flat-jobs": Scenario("server time per job as the store fills", flatness.measure_jobs, COSTS, 1),
    "flat-tenants": Scenario("server time per job as tenants are added", flatness.measure_tenants, COSTS, 1),
    "idle": Scenario(
        "a worker at rest",
        idle.measure,
        {
            "enqueue to request, p50": FigureSpec("ms", at_most(10)),
            "enqueue to request, p99": FigureSpec("ms", at_most(50)),
            "idle worker": FigureSpec("% of a core", at_most(1)),
            "idle Redis": FigureSpec("% of a core"),
        },
        1,
    ),
    "import": Scenario(
        "import of JSON lines",
        bulk.measure_import,
        {
            "lines": PER_S,
            "a million lines": FigureSpec("s", at_most(60)),
            "peak memory": FigureSpec("MB", at_most(150)),
        },
        1,
    ),
    "scrape": Scenario(
        "a scrape of the exporter, a tenth of all jobs dead",
        bulk.measure_scrape,
        {"scrape": FigureSpec("ms", at_most(50)), "slowest scrape": FigureSpec("ms")},
        1,
    ),
    "desk": Scenario(
        "the dead-letter desk on a million jobs, half of them dead",
        desk.measure,
        {
            "search, …": FigureSpec("ms", at_most(100)),
            "causes": FigureSpec("ms", at_most(100)),
            "preview": FigureSpec("ms", at_most(100)),
            "slowest of all": FigureSpec("ms", at_most(100)),
            "bury, first dead letters": MICROS,
            "bury, full": MICROS,
            "bury, full to first": FigureSpec("×", at_most(1.5)),
            "redrive, full": MICROS,
        },
        0,
    ),
    "soak": Scenario(
        "a worker's memory over many deliveries",
        bulk.measure_soak,
        {
            "memory, warm": FigureSpec("MB"),
            "memory, half way": FigureSpec("MB"),
            "memory, at the end": FigureSpec("MB"),
            "growth after warm-up": FigureSpec("bytes a delivery"),
            "end to warm": FigureSpec("×", at_most(1.05)),
        },
    ),
}
