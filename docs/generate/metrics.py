"""Every metric with its labels."""

from trackdesk_worker.telemetry.catalogue import CATALOGUE, Metric, MetricKind, Source
from trackdesk_worker.telemetry.labels import CURRENCY, OTHER, TENANT, TENANTS_NAMED, VERSION, Label

INTRODUCTION = f"""# Metrics

<!-- Generated from `worker/trackdesk_worker/telemetry/catalogue.py` by `make reference`; do not edit. -->

Base units throughout. No label carries an order id, an address or the text of an error; every label has a fixed set
of values, and whatever does not belong to it is counted as `{OTHER}`. The label `tenant` names the {TENANTS_NAMED}
tenants with the most jobs, the rest are `{OTHER}`.

"""
SOURCES = {
    Source.WORKER: (
        "Worker processes",
        "Each process on its own port, from `TRACKDESK_METRICS_PORT` up. Besides these: `process_*`, the usual CPU,\n"
        "memory and file descriptors of a process (Linux only).",
    ),
    Source.EXPORTER: (
        "Exporter",
        "One per deployment, `trackdesk console`. Read from the store at the moment of the scrape. When that fails,\n"
        "`trackdesk_collector_success` is 0 and all other metrics of the store are left out.",
    ),
}


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for source, metrics in CATALOGUE.items():
        title, about = SOURCES[source]
        parts.append(f"## {title}\n\n{about}\n\n| name | type | labels | meaning |\n|---|---|---|---|\n")
        parts += [_row(metric) for metric in metrics]
        parts.append("\n")
    parts.append("## Values of the labels\n\n| label | values |\n|---|---|\n")
    labels = {_values(label): label for metrics in CATALOGUE.values() for metric in metrics for label in metric.labels}
    parts += [f"| `{label.name}` | {values} |\n" for values, label in labels.items()]
    return "".join(parts)


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{name}`" for name in metric.label_names)
    edges = (
        f" Buckets: {', '.join(f'{edge:g}' for edge in metric.buckets)} s."
        if metric.kind is MetricKind.HISTOGRAM
        else ""
    )
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help}{edges} |\n"


def _values(label: Label) -> str:
    if label == TENANT:
        return f"the {TENANTS_NAMED} tenants with the most jobs, `{OTHER}`"
    if label == VERSION:
        return "the installed version"
    if label == CURRENCY:
        return f"ISO 4217 codes, `XXX` for amounts without one, `{OTHER}`"
    return ", ".join(f"`{value}`" for value in [*sorted(label.values), OTHER])
