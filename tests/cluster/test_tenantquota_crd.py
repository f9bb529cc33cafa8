"""TenantQuota on a real API server: what it accepts, what it refuses by which field, and `kerf quota` against it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from kerf.testing.builders import H100_MIB, a_grant, a_node
from kerf.vendors.registry import NAMES
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.quota import PATH, parse_tenant, with_defaults
from kerfctl.main import main
from sandbox import ApiError, ControlPlane, run_directory
from sandbox.crds import install_crds

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "tenants"
VENDOR = NAMES[0].vendor


@pytest.fixture(scope="module")
def cp(parts: Mapping[str, Path]) -> Iterator[ControlPlane]:
    with run_directory() as run_dir, ControlPlane.start(run_dir, parts, controller_manager=False) as plane:
        install_crds(plane)
        install_crds(plane)  # a second time changes nothing
        yield plane


@pytest.fixture(autouse=True)
def no_tenants_left(cp: ControlPlane) -> Iterator[None]:
    yield
    for item in cp.api.get(PATH)["items"]:
        cp.api.delete(f"{PATH}/{item['metadata']['name']}")


def a_tenant(name: str = "team", **spec: Any) -> dict[str, Any]:
    full = {"namespaces": [name], "classes": [{"model": "H100", "guaranteed": "1 card"}], **spec}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": full}


def of_class(**fields: Any) -> dict[str, Any]:
    return a_tenant(classes=[{"model": "H100", **fields}])


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_an_example_is_stored_with_its_defaults(cp: ControlPlane, file: Path) -> None:
    document = yaml.safe_load(file.read_text())

    stored = cp.api.post(f"{PATH}?fieldValidation=Strict", document)

    assert stored["spec"] == with_defaults(document, VENDOR)["spec"]
    assert parse_tenant(stored) == parse_tenant(document, VENDOR)


@pytest.mark.parametrize(
    "document",
    [
        a_tenant(classes=[{"guaranteed": "8 cards of H100", "burst": {"cores": 0}}]),
        of_class(guaranteed={"memory": "1.5Gi"}, burst="0 cards", lendable={"memory": "0"}),
        of_class(guaranteed={"memory": 4096, "cores": 200, "cards": "2k"}),
    ],
)
def test_every_way_to_write_a_share_is_taken(cp: ControlPlane, document: dict[str, Any]) -> None:
    assert parse_tenant(cp.api.post(f"{PATH}?fieldValidation=Strict", document)) == parse_tenant(document, VENDOR)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (a_tenant(namespaces=[]), "spec.namespaces"),
        (a_tenant(namespaces=["x", "x"]), "spec.namespaces"),
        (a_tenant(namespaces=["A"]), "spec.namespaces[0]"),
        (a_tenant("a.b"), "metadata.name"),
        (a_tenant(quota={}), "spec.quota"),
        (a_tenant(weight=0), "spec.weight"),
        (a_tenant(priority="urgent"), "spec.priority"),
        (a_tenant(whenOver="kill"), "spec.whenOver"),
        (a_tenant(claims=True), "spec.claims"),
        (a_tenant(classes=[]), "spec.classes"),
        (a_tenant(classes=[{"model": "H100", "guaranteed": "1 card"}] * 2), "spec.classes"),
        (of_class(), "spec.classes[0].guaranteed"),
        (a_tenant(classes=[{"guaranteed": "8 cards"}]), "spec.classes[0]"),
        (a_tenant(classes=[{"guaranteed": {"cards": 1}}]), "spec.classes[0]"),
        *((of_class(guaranteed=bad), "spec.classes[0].guaranteed")
          for bad in ("eight cards", "", 8, 1.5, True, None, [], ["8 cards"], {}, {"mem": 1}, {"memory": 1, "mem": 1})),
        (of_class(guaranteed="1 card", burst=3), "spec.classes[0].burst"),
        (of_class(guaranteed="1 card", lendable={"gpus": 3}), "spec.classes[0].lendable"),
        (of_class(guaranteed={"memory": "lots"}), "spec.classes[0].guaranteed.memory"),
        (of_class(guaranteed={"memory": "-1Gi"}), "spec.classes[0].guaranteed.memory"),
        (of_class(guaranteed={"cores": 1.5}), "spec.classes[0].guaranteed.cores"),
        (of_class(guaranteed={"cards": -1}), "spec.classes[0].guaranteed.cards"),
        (of_class(guaranteed="1 card", mode="x"), "spec.classes[0].mode"),
        (of_class(guaranteed="1 card", gpus=1), "spec.classes[0].gpus"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_its_field(cp: ControlPlane, document: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiError) as caught:
        cp.api.post(f"{PATH}?fieldValidation=Strict", document)

    assert caught.value.status in {400, 422}
    assert field in str(caught.value)


def test_the_status_is_written_apart_from_the_spec(cp: ControlPlane) -> None:
    cp.api.post(PATH, a_tenant())

    cp.api.patch(f"{PATH}/team/status", {"status": {"observedGeneration": 1}, "spec": {"weight": 7}})

    stored = cp.api.get(f"{PATH}/team")
    assert (stored["status"], stored["spec"]["weight"]) == ({"observedGeneration": 1}, 1)


def test_plan_apply_and_status(cp: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole cycle: a plan, its writes, nothing left to write, a pod that counts, a tenant that is removed."""
    here = ["--kubeconfig", str(cp.kubeconfig)]
    cp.api.post("/api/v1/nodes", a_node("gpu-1"))
    for name in ("serving", "research"):
        cp.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    files = ["-f", str(EXAMPLES)]

    plan = answer_of(capsys, "plan", *files, *here)
    assert [change["action"] for change in plan["changes"]] == ["create"] * 3
    assert main(["quota", "apply", *files, *here]) == 0
    assert answer_of(capsys, "plan", *files, *here)["changes"] == []
    managers = {entry["manager"] for entry in cp.api.get(f"{PATH}/serving")["metadata"]["managedFields"]}
    assert managers == {"kerf-cli"}

    bind_a_pod(cp, "serving", H100_MIB)
    books = {tenant["name"]: tenant for tenant in answer_of(capsys, "status", *here)["tenants"]}
    assert books["serving"]["classes"][0]["used"] == {"memoryMiB": H100_MIB, "cores": 100, "cards": 1}
    assert books["vision"]["problems"] == [
        "no card of model NVIDIA L40S in mode shared is known (known models: NVIDIA H100 80GB HBM3): it counts as none"
    ]

    less = yaml.safe_load((EXAMPLES / "10-serving.yaml").read_text())
    del less["spec"]["classes"][0]["burst"], less["spec"]["weight"]
    one = tmp_path / "serving.yaml"
    one.write_text(yaml.safe_dump(less))
    assert main(["quota", "apply", "-f", str(one), "--prune", *here]) == 0
    (left,) = cp.api.get(PATH)["items"]
    assert left["spec"] == with_defaults(less, VENDOR)["spec"]


def answer_of(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """A plan fails where a promise cannot be kept: no card of the examples' L40S is here."""
    capsys.readouterr()
    assert main(["quota", *argv, "--json"]) == int(argv[0] == "plan")
    return json.loads(capsys.readouterr().out)


def bind_a_pod(cp: ControlPlane, namespace: str, memory_mib: int) -> None:
    """A pod on the node with its grant, as the scheduler leaves it."""
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(memory_mib), "nvidia.com/gpucores": "100"}
    spec = {
        "nodeName": "gpu-1",
        "automountServiceAccountToken": False,
        "containers": [{"name": "main", "image": "app", "resources": {"limits": limits}}],
    }
    notes = {GRANT: render_grant(a_grant("GPU-gpu-1-0", memory_mib, 100))}
    pod = {"metadata": {"name": "chat", "annotations": notes}, "spec": spec}
    cp.api.post(f"/api/v1/namespaces/{namespace}/pods", pod)
