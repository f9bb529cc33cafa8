"""Equal states have equal digests: in any order, under any hash seed."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from kerf.model.grant import Holding
from kerf.model.snapshot import Snapshot
from kerf.testing.builders import a_grant, a_node_value, a_pod_ask

NODES = tuple(a_node_value(f"n{i}", i) for i in range(4))
HOLDINGS = tuple(Holding(f"d/p{i}", f"u{i}", "n1", a_grant(memory_mib=i + 1)) for i in range(4))
PENDING = tuple(a_pod_ask(f"w{i}") for i in range(4))
DIGEST = Snapshot(NODES, HOLDINGS, PENDING).digest()

PROGRAM = """
from kerf.testing.builders import a_node, a_pod, a_grant
from kerf.vendors.registry import NAMES, VENDORS
from kerf.model.policy import Defaults
from kerf.model.snapshot import Snapshot
from kerf.wire.objects import parse_holding, parse_node
from kerf.wire.resources import parse_pod
notes = {"nvidia.com/use-gputype": "h100,l4,a100", "nvidia.com/nouse-gpuuuid": "a,b,c,d"}
node = a_node() | {"metadata": a_node()["metadata"] | {"labels": {c: c for c in "hgfedcba"}}}
print(Snapshot(
    (parse_node(node, VENDORS),),
    (parse_holding(a_pod(node="node-1", grant=a_grant()), VENDORS),),
    (parse_pod(a_pod(annotations=notes), NAMES, Defaults()),),
).digest())
"""


@given(st.permutations(NODES), st.permutations(HOLDINGS), st.permutations(PENDING))
def test_order_does_not_matter(nodes: list[object], holdings: list[object], pending: list[object]) -> None:
    assert Snapshot(tuple(nodes), tuple(holdings), tuple(pending)).digest() == DIGEST  # type: ignore[arg-type]


def test_every_part_matters() -> None:
    others = {
        Snapshot(NODES[1:], HOLDINGS, PENDING).digest(),
        Snapshot(NODES, HOLDINGS[1:], PENDING).digest(),
        Snapshot(NODES, HOLDINGS, PENDING[1:]).digest(),
        Snapshot((*NODES[:3], a_node_value("n3", 3, schedulable=False)), HOLDINGS, PENDING).digest(),
        DIGEST,
    }

    assert len(others) == 5


def test_the_hash_seed_does_not_matter() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }

    assert len(digests) == 1
    assert len(digests.pop().strip()) == 12
