"""RESULTS.md: the measured part is written from the figures, the rest by hand and left alone."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.measure.catalogue import SCENARIOS
from tests.benchmarks.measure.figures import plain

PAGE = Path(__file__).parent / "RESULTS.md"
BEGIN, END = "<!-- measured: written by `make bench` -->", "<!-- measured: end -->"

_COLUMNS = (
    "peer",
    "theirs/s",
    "ours/s",
    "times as fast",
    "their worker + Redis µs",
    "our worker + Redis µs",
    "our worker to theirs",
    "all processor time to theirs",
)


def render(document: Mapping[str, Any]) -> str:
    """Return the measured part as Markdown."""
    return "\n".join([*_heading(document), *_targets(document), *_peers(document), *_scenarios(document)])


def update(document: Mapping[str, Any]) -> None:
    """Put the measured part into the page."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{render(document)}\n{END}{after}", "utf-8")


def _heading(document: Mapping[str, Any]) -> Iterator[str]:
    machine = document["machine"]
    yield (
        f"{document['date']}, {machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, Valkey {machine['valkey']}; {document['runs']} runs."
    )


def _targets(document: Mapping[str, Any]) -> Iterator[str]:
    bench = document["bench"]
    if bench is None:
        return
    yield ""
    yield "## Every target, and what was measured"
    yield ""
    yield "| scenario | what | median | target | |"
    yield "|---|---|--:|---|---|"
    for name, figures in bench["scenarios"].items():
        for figure in figures:
            if figure["target"]:
                median = f"{plain(figure['median'])} {figure['unit']}"
                yield f"| {name} | {figure['name']} | {median} | {figure['target']} | {_verdict(figure['met'])} |"
    for peer in document["peers"]:
        if peer["name"] == "celery-threads" and "skipped" not in peer:
            times = peer["throughput_ratio"]["median"]
            what = "deliveries to those of the plain Celery + httpx task"
            yield f"| peers | {what} | {plain(times)} × | ≥ 8 | {_verdict(times >= 8)} |"
        if peer["name"] == "bullmq" and "skipped" not in peer:
            share = peer["worker_cpu_ratio"]["median"]
            yield f"| peers | worker CPU to BullMQ's (stretch) | {plain(share)} × | ≤ 1 | {_verdict(share <= 1)} |"


def _verdict(met: bool | None) -> str:
    return {None: "", True: "met", False: "**missed**"}[met]


def _scenarios(document: Mapping[str, Any]) -> Iterator[str]:
    bench = document["bench"]
    if bench is None:
        return
    yield ""
    yield "## Our own figures beside their targets"
    yield ""
    yield f"Everything on; {bench['audits_clean']} audits after the runs, all clean."
    for name, figures in bench["scenarios"].items():
        yield ""
        yield f"**{name}**: {SCENARIOS[name].about}"
        yield ""
        yield "| figure | min | median | max | unit | target | |"
        yield "|---|--:|--:|--:|---|---|---|"
        for figure in figures:
            low, median, high = (plain(figure[key]) for key in ("min", "median", "max"))
            met = _verdict(figure["met"])
            target = figure["target"] or ""
            yield f"| {figure['name']} | {low} | {median} | {high} | {figure['unit']} | {target} | {met} |"


def _peers(document: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield "## Peers, in alternating runs"
    yield ""
    yield "Deliveries/s and µs of processor time per job: medians. Ratios: ours to theirs, min / median / max of pairs."
    yield ""
    yield "| " + " | ".join(_COLUMNS) + " |"
    yield "|---|--:|--:|---|--:|--:|---|---|"
    for peer in document["peers"]:
        if "skipped" in peer:
            yield f"| {peer['about']} | skipped: {peer['skipped']} | | | | | | |"
            continue
        ours, theirs = peer["ours"], peer["theirs"]
        cells = [
            peer["about"] + (f" ({peer['remark']})" if peer["remark"] else ""),
            plain(theirs["per_second"]["median"]),
            plain(ours["per_second"]["median"]),
            _spread(peer["throughput_ratio"]),
            _cpu(theirs),
            _cpu(ours),
            _spread(peer["worker_cpu_ratio"]),
            _spread(peer["all_cpu_ratio"]),
        ]
        yield "| " + " | ".join(cells) + " |"


def _cpu(side: Mapping[str, Any]) -> str:
    return f"{plain(side['worker_cpu_us']['median'])} + {plain(side['redis_cpu_us']['median'])}"


def _spread(values: Mapping[str, float]) -> str:
    return " / ".join(plain(values[key]) for key in ("min", "median", "max"))
