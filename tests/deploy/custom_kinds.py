"""The shapes of the kinds that clusters add: what of the Prometheus Operator's and KEDA's API this project uses.

Written after their API references (monitoring.coreos.com/v1, keda.sh/v1alpha1), since their own schemas are in no
package that fits here. Stricter than those: a field that is not named below is refused, so that a misspelt one is.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
DURATION: Schema = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h|d|w|y))+$"}
WORDS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def shape(required: Schema, optional: Schema | None = None) -> Schema:
    """Return the schema of an object with these fields and no others."""
    fields = {**required, **(optional or {})}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def several(item: Schema) -> Schema:
    """Return the schema of a list that is not empty."""
    return {"type": "array", "items": item, "minItems": 1}


def kind(api: str, name: str, spec: Schema) -> Schema:
    """Return the schema of a whole object."""
    metadata = shape({"name": TEXT, "namespace": TEXT}, {"labels": WORDS, "annotations": WORDS})
    return shape({"apiVersion": {"const": api}, "kind": {"const": name}, "metadata": metadata, "spec": spec})


SELECTOR = shape({"matchLabels": WORDS})
RELABEL = shape(
    {"targetLabel": TEXT, "replacement": TEXT},
    {"sourceLabels": several(TEXT), "regex": TEXT, "action": {"enum": ["replace", "keep", "drop", "labeldrop"]}},
)
SCRAPE = shape(
    {"port": TEXT, "interval": DURATION, "scrapeTimeout": DURATION},
    {"path": TEXT, "honorLabels": {"type": "boolean"}, "relabelings": several(RELABEL)},
)
RULE = {
    "oneOf": [
        shape(
            {"alert": TEXT, "expr": TEXT, "labels": WORDS, "annotations": WORDS},
            {"for": DURATION, "keep_firing_for": DURATION},
        ),
        shape({"record": {"type": "string", "pattern": "^[a-zA-Z_:][a-zA-Z0-9_:]*$"}, "expr": TEXT}, {"labels": WORDS}),
    ]
}
GROUP = shape({"name": TEXT, "rules": several(RULE)}, {"interval": DURATION, "limit": COUNT})
PACE = shape({"type": {"enum": ["Pods", "Percent"]}, "value": COUNT, "periodSeconds": COUNT})
BEHAVIOUR = shape(
    {"stabilizationWindowSeconds": COUNT, "policies": several(PACE)}, {"selectPolicy": {"enum": ["Max", "Min"]}}
)
PROMETHEUS_TRIGGER = shape(
    {
        "type": {"const": "prometheus"},
        "name": TEXT,
        # All strings: KEDA's metadata is a map of text.
        "metadata": shape(
            {
                "serverAddress": {"type": "string", "pattern": "^https?://"},
                "query": TEXT,
                "threshold": {"type": "string", "pattern": r"^[0-9.]+$"},
                "ignoreNullValues": {"enum": ["true", "false"]},
            },
            {"activationThreshold": {"type": "string", "pattern": r"^[0-9.]+$"}},
        ),
    },
    {"metricType": {"enum": ["AverageValue", "Value"]}},
)

SCHEMAS: dict[tuple[str, str], Schema] = {
    (schema["properties"]["apiVersion"]["const"], schema["properties"]["kind"]["const"]): schema
    for schema in (
        kind("monitoring.coreos.com/v1", "ServiceMonitor", shape({"selector": SELECTOR, "endpoints": several(SCRAPE)})),
        kind(
            "monitoring.coreos.com/v1",
            "PodMonitor",
            shape({"selector": SELECTOR, "podMetricsEndpoints": several(SCRAPE)}),
        ),
        kind("monitoring.coreos.com/v1", "PrometheusRule", shape({"groups": several(GROUP)})),
        kind(
            "keda.sh/v1alpha1",
            "ScaledObject",
            shape(
                {
                    "scaleTargetRef": shape({"name": TEXT}, {"kind": TEXT, "apiVersion": TEXT}),
                    "minReplicaCount": COUNT,
                    "maxReplicaCount": COUNT,
                    "triggers": several(PROMETHEUS_TRIGGER),
                },
                {
                    "pollingInterval": COUNT,
                    "cooldownPeriod": COUNT,
                    "advanced": shape(
                        {
                            "horizontalPodAutoscalerConfig": shape(
                                {"behavior": shape({"scaleUp": BEHAVIOUR, "scaleDown": BEHAVIOUR})}
                            )
                        }
                    ),
                },
            ),
        ),
    )
}
