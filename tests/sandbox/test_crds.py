"""The CRD, its copy in the chart and the codec say one thing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.metering.fitting import MOST_ROWS
from kerf.metering.reports import MOST_ROWS as MOST_REPORTED
from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.device import Mode
from kerf.values.quota import Amount, Bound, ByClaims, WhenOver
from kerf.values.usage import ReportedHour, ReportedRow
from kerf.vendors.registry import NAMES
from kerf.wire.accounts import render_status
from kerf.wire.errors import WireError
from kerf.wire.fields import API_VERSION
from kerf.wire.gatewayrecords import PATH as REPORTS_PATH
from kerf.wire.gatewayrecords import render_reported
from kerf.wire.quota import KIND, MOST_CLASSES, MOST_NAMESPACES, PATH, PRIORITIES, parse_tenant, with_defaults
from kerf.wire.usage import PATH as USAGE_PATH
from kerf.wire.usage import render_usage
from sandbox.crds import read_crds
from tests.kerf.wire.test_usage import RECORD

ROOT = Path(__file__).parents[2]
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in read_crds()}
CRD = CRDS[KIND]
VERSION = CRD["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]
SPEC = SCHEMA["properties"]["spec"]["properties"]
CLASS = SPEC["classes"]["items"]["properties"]
VALUES = {
    "namespaces": ["a"],
    "classes": [{"model": "H100", "guaranteed": "1 card"}],
    "weight": 2,
    "priority": "high",
    "whenOver": "evict",
    "claims": "allow",
}
CLASS_VALUES = {
    "model": "H100",
    "mode": "mps",
    "vendor": "amd",
    "guaranteed": "1 card",
    "burst": "1 card",
    "lendable": "1 card",
}
SHARE_VALUES = {"memory": "1Gi", "cores": 1, "cards": 1}


def tenant(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}, "spec": {**VALUES, **spec}}


def of_class(**changes: Any) -> dict[str, Any]:
    return tenant(classes=[{**CLASS_VALUES, **changes}])


def test_the_chart_holds_the_same_files() -> None:
    ours, charts = (
        {path.name: path.read_bytes() for path in (ROOT / folder).glob("*.yaml")}
        for folder in ("sandbox/crds", "charts/kerf/crds")
    )

    assert ours == charts


def nested(schema: Any) -> Any:
    """The names that a schema knows, as nested as it is."""
    inner = schema.get("properties") or schema.get("items", {}).get("properties")
    return {name: nested(part) for name, part in inner.items()} if inner else None


def named(value: Any) -> Any:
    """The names that a document uses, as nested as it is."""
    first = value[0] if isinstance(value, list) and value else value
    return {name: named(part) for name, part in first.items()} if isinstance(first, dict) else None


def test_what_is_kept_of_an_hour_is_what_its_schema_knows() -> None:
    crd = CRDS["TenantUsage"]
    version, names = crd["spec"]["versions"][0], crd["spec"]["names"]
    whole = replace(RECORD, owner_namespace="ns")

    assert nested(version["schema"]["openAPIV3Schema"])["spec"] == named(render_usage(whole)["spec"])
    assert f"/apis/{crd['spec']['group']}/{version['name']}/{names['plural']}" == USAGE_PATH
    assert version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["rows"]["maxItems"] >= 2 * MOST_ROWS


def test_what_gateways_report_is_what_its_schema_knows() -> None:
    crd = CRDS["GatewayUsage"]
    version = crd["spec"]["versions"][0]
    whole = ReportedHour(0, "knoway/gateway", "one", (ReportedRow("k", "u", "m", 1, 2, 1, 3),))
    schema = version["schema"]["openAPIV3Schema"]

    assert nested(schema)["spec"] == named(render_reported(whole)["spec"])
    assert f"/apis/{crd['spec']['group']}/{version['name']}/{crd['spec']['names']['plural']}" == REPORTS_PATH
    assert schema["properties"]["spec"]["properties"]["rows"]["maxItems"] >= 2 * MOST_REPORTED


def test_it_is_served_where_the_code_looks_for_it() -> None:
    names = CRD["spec"]["names"]

    assert f"/apis/{CRD['spec']['group']}/{VERSION['name']}/{names['plural']}" == PATH
    assert names["kind"] == KIND


@pytest.mark.parametrize(
    ("schema", "values", "document"),
    [
        (SPEC, VALUES, lambda values: tenant(**values)),
        (CLASS, CLASS_VALUES, lambda values: of_class(**values)),
        (CLASS["guaranteed"]["properties"], SHARE_VALUES, lambda values: of_class(guaranteed=values)),
        (CLASS["burst"]["properties"], SHARE_VALUES, lambda values: of_class(burst=values)),
    ],
    ids=["spec", "class", "guaranteed", "burst"],
)
def test_schema_and_codec_know_the_same_keys(schema: Any, values: Any, document: Any) -> None:
    assert set(schema) == set(values)
    parse_tenant(document(values))
    with pytest.raises(WireError) as caught:
        parse_tenant(document({**values, "surprise": 1}))
    assert all(key in caught.value.fix for key in schema)


def test_words_bounds_and_defaults_are_the_codecs() -> None:
    assert SPEC["priority"]["enum"] == list(PRIORITIES)
    assert SPEC["whenOver"]["enum"] == [word.value for word in WhenOver]
    assert SPEC["claims"]["enum"] == [word.value for word in ByClaims]
    assert set(CLASS["mode"]["enum"]) == {mode.value for mode in Mode}
    assert (SPEC["namespaces"]["maxItems"], SPEC["classes"]["maxItems"]) == (MOST_NAMESPACES, MOST_CLASSES)
    bare = {"namespaces": ["a"], "classes": [{"model": "H100", "guaranteed": "1 card"}]}
    spec = with_defaults({"spec": bare}, NAMES[0].vendor)["spec"]
    defaults = {key: value["default"] for key, value in SPEC.items() if "default" in value}
    class_defaults = {key: value["default"] for key, value in CLASS.items() if "default" in value}
    assert spec == {**bare, **defaults, "classes": [{**bare["classes"][0], **class_defaults}]}
    assert parse_tenant(tenant() | {"spec": spec}) == parse_tenant(tenant() | {"spec": bare}, NAMES[0].vendor)


def test_the_status_that_is_written_is_the_one_that_is_kept() -> None:
    """The API server prunes what the schema does not know."""
    entry = ClassAccount("s", "nvidia", "H100", "shared", 1, 2, Bound(1, 2, 3), Bound(1, 2, 3), Bound(1, 2, 3),
                      Amount(1, 1, 1), Amount(1, 1, 1), Amount(1, 1, 1), Amount(1, 1, 1), 480)  # fmt: skip
    status = render_status(TenantAccount("a", ("a",), classes=(entry,), waiting=("x",), problems=("y",)), 1)
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"

    # `fleet` is another writer's: the manager of a fleet adds it to a tenant that is split.
    assert {key for key in keys(SCHEMA["properties"]["status"]) if not key.startswith("fleet")} == paths(status)


def test_the_columns_show_what_the_status_has() -> None:
    totals = [c["jsonPath"] for c in VERSION["additionalPrinterColumns"] if c["jsonPath"].startswith(".status.totals")]
    known = {f".status.{path}" for path in keys(SCHEMA["properties"]["status"])}

    assert totals
    assert set(totals) <= known


def test_every_example_is_a_tenant() -> None:
    files = sorted((ROOT / "examples" / "tenants").glob("*.yaml"))

    assert [parse_tenant(yaml.safe_load(file.read_text())).name for file in files] == ["serving", "research", "vision"]


def keys(schema: Any, path: str = "") -> set[str]:
    """Every leaf of a schema."""
    if "items" in schema:
        return keys(schema["items"], f"{path}[]")
    if "properties" not in schema:
        return {path}
    return {leaf for key, part in schema["properties"].items() for leaf in keys(part, f"{path}.{key}".lstrip("."))}


def paths(value: Any, path: str = "") -> set[str]:
    """Every leaf of a document."""
    if isinstance(value, list):
        return {leaf for item in value for leaf in paths(item, f"{path}[]")}
    if not isinstance(value, dict):
        return {path}
    return {leaf for key, part in value.items() for leaf in paths(part, f"{path}.{key}".lstrip("."))}
