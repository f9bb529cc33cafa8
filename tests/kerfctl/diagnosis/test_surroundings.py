"""What the doctor says of definitions that Helm left behind, of resources that nobody offers, and of open cards."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from kerf.kube.errors import Forbidden
from kerf.testing.builders import a_container, a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.vendors.registry import VENDORS
from kerfctl.diagnosis.crds import definitions
from kerfctl.diagnosis.dump import Dump, Finding, Level
from kerfctl.diagnosis.pods import resources, visible
from kerfctl.main import main
from sandbox.crds import read_crds

SHIPPED = tuple(crd for crd in read_crds() if crd["metadata"]["name"] == "tenantquotas.kerf.dev")
EMPTY = Dump(VENDORS, nodes=(a_node(),), definitions=SHIPPED, shipped=SHIPPED)
SCHEMA = ("spec", "versions", 0, "schema", "openAPIV3Schema", "properties")


def changed(*path: Any, value: Any = None) -> Dump:
    """The cluster's definition with a field set, or without it."""
    crd = copy.deepcopy(SHIPPED[0])
    holder: Any = crd
    for step in path[:-1]:
        holder = holder[step]
    if value is None:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return replace(EMPTY, definitions=(crd,))


def whats(found: Any) -> list[str]:
    return [finding.what for finding in found]


def test_a_definition_as_this_version_has_it_is_well_also_with_what_the_api_server_adds() -> None:
    assert list(definitions(EMPTY)) == []
    assert list(definitions(changed("spec", "conversion", value={"strategy": "None"}))) == []


def test_a_definition_that_helm_left_behind_is_named_with_the_fields_that_it_drops() -> None:
    (found,) = definitions(changed(*SCHEMA, "spec", "properties", "classes"))

    assert found.level is Level.WRONG
    assert found.what == (
        "CRD tenantquotas.kerf.dev is older than this kerf: it does not know v1alpha1:spec.classes, "
        "which is dropped when written"
    )
    assert "kubectl apply --server-side --force-conflicts -f charts/kerf/crds" in found.fix


def test_a_definition_of_a_newer_release_is_a_warning_for_an_old_kerf() -> None:
    (found,) = definitions(changed(*SCHEMA, "spec", "properties", "later", value={"type": "string"}))

    assert (found.level, found.what) == (
        Level.WARNING, "CRD tenantquotas.kerf.dev is newer than this kerf: it also has v1alpha1:spec.later",
    )  # fmt: skip


def test_a_status_that_is_no_subresource_is_missed() -> None:
    assert "v1alpha1/status" in whats(definitions(changed("spec", "versions", 0, "subresources")))[0]


def test_pods_that_wait_for_what_no_node_offers_are_named_together() -> None:
    wrong = [{"name": "main", "resources": {"limits": {"nvidia.com/gpumemory": 1}}}]
    pods = tuple(a_pod(f"p-{i}", containers=wrong) for i in range(5))

    (found,) = resources(replace(EMPTY, pods=(*pods, a_pod("well"))))
    assert found.what == (
        "no node offers nvidia.com/gpumemory; did you mean nvidia.com/gpumem? "
        "(default/p-0, default/p-1, default/p-2 and 2 more wait for it)"
    )


def seen(container: dict[str, Any], **meta: Any) -> list[Finding]:
    pod = a_pod("p", containers=[container], node="node-1", phase="Running", **meta)
    return list(visible(replace(EMPTY, pods=(pod,))))


def shows(value: str) -> list[dict[str, str]]:
    return [{"name": "NVIDIA_VISIBLE_DEVICES", "value": value}]


def test_a_privileged_container_with_a_slice_sees_every_card() -> None:
    (found,) = seen(a_container(securityContext={"privileged": True}))

    where = "pod default/p, container main on node-1"
    sentence = f"{where} is privileged and sees every card of the node, whatever it was granted"
    assert (found.level, found.what) == (Level.WARNING, sentence)


def test_a_container_that_asks_for_no_card_and_shows_itself_all_is_named() -> None:
    (found,) = seen({"name": "main", "env": shows("all")})

    assert found.what == (
        "pod default/p, container main on node-1 sets NVIDIA_VISIBLE_DEVICES and asks for no card: "
        "it may use cards that others hold"
    )


@pytest.mark.parametrize(
    ("container", "meta"),
    [
        ({"name": "main", "env": shows("void")}, {}),
        ({"name": "main"}, {}),
        (a_container(env=shows("all")), {}),
        ({"name": "plugin", "env": shows("all")}, {"labels": {"app.kubernetes.io/name": "kerf"}}),
    ],
    ids=["hidden", "unset", "asks", "Kerf's own"],
)
def test_others_are_well(container: dict[str, Any], meta: dict[str, Any]) -> None:
    assert seen(container, **meta) == []


def test_the_exit_status_is_not_0_when_something_was_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kube = FakeKube(a_node())
    monkeypatch.setattr(
        kube, "create", lambda *_: {"status": {"allowed": True}, "spec": {"schedulerName": "kerf-scheduler"}}
    )
    monkeypatch.setattr(kube, "get", lambda path, *_: {"gitVersion": "v1.36.3"})

    def lists(path: str, *_: Any) -> Any:
        if path.endswith("events"):
            raise Forbidden(403, "Forbidden", "no events for you")
        return ([], "1")

    monkeypatch.setattr(kube, "list", lists)
    monkeypatch.setattr("kerfctl.cluster.connect_to", lambda args: kube)

    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["left_out"] == 1
