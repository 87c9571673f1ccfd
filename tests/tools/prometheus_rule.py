"""The rules as the Prometheus Operator wants them: ``python -m tests.tools.prometheus_rule`` writes the file.

One source, deploy/prometheus; tests/deploy/test_kubernetes.py holds the copy true.
"""

import re
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"
TARGET = DEPLOY / "kubernetes/components/prometheus-operator/rules.yaml"
HEADER = """\
# Written by `python -m tests.tools.prometheus_rule` from deploy/prometheus; change the rules there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: trackdesk
  namespace: trackdesk
spec:
  groups:
"""


def render() -> str:
    """Return the file: the groups of every rule file that prometheus.yml names, in its order."""
    config = (DEPLOY / "prometheus/prometheus.yml").read_text("utf-8")
    names = re.findall(r"^  - (\w+\.yml)$", config.partition("rule_files:")[2], re.MULTILINE)
    groups = [(DEPLOY / "prometheus" / name).read_text("utf-8").partition("\ngroups:\n")[2] for name in names]
    lines = "".join(groups).splitlines()
    return HEADER + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    TARGET.write_text(render(), "utf-8")
