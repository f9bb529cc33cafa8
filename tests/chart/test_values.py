"""Platform engineers can trust the values file: it explains each value, and the schema refuses each mistake by name."""

import json
import re
from typing import Any

import pytest
import yaml

from tests.chart.helm import CHART, Refused, render, run

pytestmark = pytest.mark.chart
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_helm_finds_nothing_to_complain_about():
    assert "0 chart(s) failed" in run("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ("scheduler.replicas=two", "/scheduler/replicas", "got string, want integer"),
        ("scheduler.replicaCount=2", "/scheduler", "additional properties 'replicaCount' not allowed"),
        ("webhook.failurePolicy=Maybe", "/webhook/failurePolicy", "value must be one of 'Fail', 'Ignore'"),
        ("vendors.nvidia.resourceName=gpu", "/vendors/nvidia/resourceName", "'gpu' does not match pattern"),
        ("vendors.toy.resourceMem=toy.example/npu-memory", "vendors", "Kerf does not know the vendor toy"),
        (
            "devicePlugin.vendor=toy,devicePlugin.pools[0].name=p,devicePlugin.pools[0].nodeSelector.a=b",
            "pool p",
            "toy",
        ),
        ("schedulerName=default-scheduler", "/schedulerName", "'not' failed"),
        ("devicePlugin.probe=simulated:f", "/devicePlugin/probe", "'simulated:f' does not match pattern"),
        ("devicePlugin.deviceMemoryScaling=50", "/devicePlugin/deviceMemoryScaling", "maximum: got 50, want 10"),
        ("devicePlugin.libPath=lib", "/devicePlugin/libPath", "'lib' does not match pattern"),
        ("policy.defaults.memory=1", "/policy/defaults", "additional properties 'memory' not allowed"),
        ("scheduler.defaultSchedulerPolicy.gpuSchedulerPolicy=best", "/gpuSchedulerPolicy", "does not match pattern"),
        ("quota.kueue.enabled=true", "/quota/enabled", "value must be true"),
        ("quota.kueue.multikueue.enabled=true", "/quota/kueue/multikueue/secrets", "minItems: got 0, want 1"),
        ("quota.kueue.multikueue.enabled=true", "/quota/kueue/enabled", "value must be true"),
        ("admissionPolicies.enabled=often", "/admissionPolicies/enabled", "value must be one of 'auto', true, false"),
        ("webhook.certificates.source=secret", "webhook.certificates.caBundle", "give the PEM of the authority"),
        ("scheduler.leaderElect=false", "scheduler.replicas: 2", "write 1, or elect a leader"),
        ("policy.express=true,scheduler.extender.httpTimeout=4", "scheduler.extender.httpTimeout", "write 5 or more"),
        ("gateways.reports.enabled=true", "gateways.reports: nobody may report", "tokens.allow"),
        (
            "gateways.reports.enabled=true,gateways.reports.certificates.allow={edge}",
            "gateways.reports.certificates.caSecret",
            "the Secret with ca.crt",
        ),
        (
            "gateways.reports.tokens.allow={knoway}",
            "/gateways/reports/tokens/allow/0",
            "'knoway' does not match pattern",
        ),
        ("scheduler.hostNetwork=true", "scheduler.replicas: 2", "write 1, or drop hostNetwork"),
        ("devicePlugin.createRuntimeClass=true", "devicePlugin.runtimeClassName", "name the class"),
    ],
)
def test_a_bad_value_is_refused_with_its_field(value, field, words):
    with pytest.raises(Refused) as refused:
        render(value)

    assert field in str(refused.value)
    assert words in str(refused.value)


def test_every_value_is_documented_where_it_is():
    lines = (CHART / "values.yaml").read_text().splitlines()
    silent = [line for i, line in enumerate(lines) if is_value(line) and not is_explained(lines, i)]

    assert silent == []


KUBERNETES = frozenset(
    {"image", "resources", "podAnnotations", "nodeSelector", "affinity", "priorityClassName", "tolerations"}
)
"""Fields of every pod and chart, which Kubernetes' own reference explains with all that is below them."""


def is_value(line: str) -> bool:
    return bool(re.match(r"\s*\w+:", line))


def is_explained(lines: list[str], i: int) -> bool:
    """A comment above it, above the neighbours directly before it, or above its block."""
    if lines[i].strip().partition(":")[0] in KUBERNETES:
        return True
    depth = indent(lines[i])
    for j in range(i - 1, -1, -1):
        above = lines[j]
        if not above.strip() or indent(above) < depth:
            return bool(above.strip()) and is_explained(lines, j)
        if above.strip().startswith("#") and indent(above) == depth:
            return True
    return False


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def test_the_schema_knows_every_value_and_the_file_every_one_of_the_schema():
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert sorted(_paths(values)) == sorted(_schema_paths(SCHEMA, values))


def _paths(values: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        path = f"{above}.{key}".lstrip(".")
        found += [path, *(_paths(value, path) if isinstance(value, dict) else [])]
    return found


def _schema_paths(schema: dict[str, Any], values: dict[str, Any], above: str = "") -> list[str]:
    """Paths of the schema, as deep as the values file goes: an empty map there leaves the rest to its comment."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    properties = dict(schema.get("properties", {})) if values else {}
    for pattern, below in schema.get("patternProperties", {}).items():
        properties |= {key: below for key in values if re.search(pattern, key)}
    alternatives = {"maxUnavailable", "claims"}  # instead of, or in addition to, what the file has
    found = []
    for key, below in (properties or {key: {} for key in values}).items():
        if key in alternatives and key not in values:
            continue
        path = f"{above}.{key}".lstrip(".")
        value = values.get(key)
        found += [path, *(_schema_paths(below, value, path) if isinstance(value, dict) else [])]
    return found


def test_the_schema_lets_nothing_unknown_through():
    loose = [path for path in _objects(SCHEMA, "") if not path.endswith(("labels", "annotations"))]

    assert loose == []


def _objects(schema: Any, path: str) -> list[str]:
    """Paths of objects with listed properties to which others could be added."""
    if not isinstance(schema, dict):
        return []
    here = [path] if "properties" in schema and schema.get("type") == "object" else []
    here = [each for each in here if schema.get("additionalProperties") is not False]
    return here + [each for key, below in schema.items() for each in _objects(below, f"{path}/{key}")]
