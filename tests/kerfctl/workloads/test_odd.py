"""Whatever is written in an object: a world, or one line that names file and object; never a trace."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.pricing.prices import PriceList
from kerf.testing.builders import a_container, a_node
from kerf.vendors.registry import NAMES, VENDORS
from kerfctl.admission import admit
from kerfctl.errors import CliError
from kerfctl.kinds import OfflineKinds
from kerfctl.offers import Offers
from kerfctl.workloads.expand import Expanded, expand
from kerfctl.workloads.kinds import DAEMON_SET, MAKERS
from scheduler.state.store import Store
from webhook.core.settings import Settings

WORDS = st.sampled_from(
    [
        "replicas",
        "template",
        "spec",
        "metadata",
        "labels",
        "parallelism",
        "completions",
        "suspend",
        "jobTemplate",
        "size",
        "replicatedJobs",
        "leaderWorkerTemplate",
        "workerTemplate",
        "headGroupSpec",
        "workerGroupSpecs",
        "rayClusterSpec",
        "predictor",
        "model",
        "containers",
        "initContainers",
        "resources",
        "limits",
        "nvidia.com/gpumem",
        "example.com/x",
        "pytorchReplicaSpecs",
        "Worker",
        "tolerations",
        "affinity",
        "nodeSelector",
        "name",
        "numOfHosts",
        "minReplicas",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["", "a", "8Gi", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
KINDS = [*MAKERS, DAEMON_SET]


def no_store() -> Store:
    raise AssertionError("no pod here accepts several kinds of cards")


def no_prices() -> PriceList:
    raise AssertionError("no pod here accepts several kinds of cards")


@pytest.mark.parametrize(("group", "kind"), KINDS, ids=[kind for _, kind in KINDS])
@settings(deadline=None)
@given(spec=VALUES, status=VALUES)
def test_an_odd_object_is_pods_or_one_line(group: str, kind: str, spec: Any, status: Any) -> None:
    item = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": "odd"}, "spec": spec, "status": status}
    nodes = (a_node(),)
    try:
        found, said = expand([("file", item)], nodes), ""
    except CliError as error:
        found, said = Expanded(), str(error)
    assert not said or (said.startswith(f"file: {kind} odd: ") and "\n" not in said)

    offers = Offers(nodes, found.pods, NAMES)
    for admitted in admit(found.pods, Settings(VENDORS), OfflineKinds(no_store, no_prices, found.pods)):
        pod_spec = admitted.pod.get("spec")
        offers.asked(pod_spec if isinstance(pod_spec, dict) else {})


@given(VALUES)
def test_offers_survive_odd_nodes_and_pods(value: Any) -> None:
    node = {"metadata": {"name": "n"}, "status": {"allocatable": value}}
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": value}, "status": value}

    offers = Offers([node, {"metadata": value}], [pod], NAMES)

    assert offers.lacks(offers.asked({"containers": [a_container()]}), "n") == ""
