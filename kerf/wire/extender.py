"""The scheduler-extender protocol of kube-scheduler (k8s.io/kube-scheduler/extender/v1): JSON to values and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from kerf.wire.body import object_of
from kerf.wire.errors import WireError
from kerf.wire.json import at

MOST_NODES = 100_000
_NAMES_KEY = b',"NodeNames":'


@dataclass(frozen=True, slots=True)
class NodesQuery:
    """Filter's and prioritize's question: one pod, and node names in kube-scheduler's order."""

    pod: Mapping[str, Any]
    nodes: Sequence[str]


@dataclass(frozen=True, slots=True)
class BindQuery:
    """Bind's question."""

    namespace: str
    name: str
    uid: str
    node: str


@dataclass(frozen=True, slots=True)
class PreemptQuery:
    """Preempt's question: per candidate node the uids of kube-scheduler's victims, and its count of PDB violations."""

    pod: Mapping[str, Any]
    victims: Mapping[str, tuple[tuple[str, ...], int]]


def parse_nodes_query(body: bytes) -> NodesQuery:
    """Read ExtenderArgs. Full node objects (`nodeCacheCapable: false`) are reduced to names. Raises WireError."""
    document = object_of(body)
    pod = _mapping(document, "Pod")
    names = document.get("NodeNames")
    if names is None:
        items = at(document, "Nodes").get("items") or []
        names = items
        if isinstance(items, list):
            names = [at(item, "metadata").get("name") for item in items]
    if not isinstance(names, list) or len(names) > MOST_NODES or not {str}.issuperset(map(type, names)):
        raise WireError("NodeNames", names, f"send a list of at most {MOST_NODES} names")
    return NodesQuery(pod, names)


def split_nodes_query(body: bytes) -> tuple[bytes, bytes] | None:
    """ExtenderArgs without its node names, and these as text, where they come last, as kube-scheduler writes them.

    If both parts are JSON, an object and a list, the body is the object with the list in it: a key within the pod would
    leave the object without its end.
    """
    before, found, after = body.rpartition(_NAMES_KEY)
    return (before + b"}", after[:-1]) if found and after.endswith(b"]}") else None


def parse_pod_part(document: bytes) -> Mapping[str, Any]:
    """The pod of ExtenderArgs without node names. Raises WireError."""
    return _mapping(object_of(document), "Pod")


def parse_bind_query(body: bytes) -> BindQuery:
    """Read ExtenderBindingArgs. Raises WireError."""
    document = object_of(body)
    fields = {key: document.get(key) for key in ("PodNamespace", "PodName", "PodUID", "Node")}
    for key, value in fields.items():
        if not isinstance(value, str) or not value or len(value) > 253:
            raise WireError(key, value, "send a text of 1 to 253 characters")
    return BindQuery(*(str(value) for value in fields.values()))


def parse_preempt_query(body: bytes) -> PreemptQuery:
    """Read ExtenderPreemptionArgs, in either of its two forms. Raises WireError."""
    document = object_of(body)
    pod = _mapping(document, "Pod")
    short = document.get("NodeNameToMetaVictims")
    full = document.get("NodeNameToVictims")
    source = short if isinstance(short, Mapping) and short else full
    if not isinstance(source, Mapping):
        raise WireError("NodeNameToMetaVictims", source, "send a map of node names to victims")
    victims = {node: _victims(entry, node[:63]) for node, entry in source.items()}
    return PreemptQuery(pod, victims)


def _victims(entry: object, node: str) -> tuple[tuple[str, ...], int]:
    pods, violations = at(entry).get("Pods") or [], at(entry).get("NumPDBViolations") or 0
    if not isinstance(pods, list) or isinstance(violations, bool) or not isinstance(violations, int):
        raise WireError(f"victims of {node}", entry, "send Pods as a list and NumPDBViolations as a number")
    return tuple(_uid(pod, node) for pod in pods), violations


def _uid(pod: object, node: str) -> str:
    uid = at(pod).get("UID") or at(pod, "metadata").get("uid")
    if not isinstance(uid, str):
        raise WireError(f"victims of {node}", pod, "send every pod with its uid")
    return uid


def render_filter(nodes: list[str], failed: Mapping[str, str], never: Mapping[str, str], error: str = "") -> bytes:
    """ExtenderFilterResult. `failed` may fit after a preemption, `never` will not; both map names to one sentence."""
    return orjson.dumps(
        {
            "NodeNames": nodes,
            "FailedNodes": dict(failed),
            "FailedAndUnresolvableNodes": dict(never),
            "Error": error,
        }
    )


def render_names(names: Sequence[str]) -> bytes:
    """A list of names as JSON."""
    return orjson.dumps(list(names))


def render_filter_parts(nodes: bytes, failed: bytes, never: bytes) -> bytes:
    """ExtenderFilterResult from a JSON list and the members of two JSON objects."""
    return b'{"NodeNames":%s,"FailedNodes":{%s},"FailedAndUnresolvableNodes":{%s},"Error":""}' % (nodes, failed, never)


def render_scores(names: list[str], scores: list[int]) -> bytes:
    """HostPriorityList."""
    return orjson.dumps([{"Host": name, "Score": score} for name, score in zip(names, scores, strict=True)])


def render_bind(error: str = "") -> bytes:
    """ExtenderBindingResult."""
    return orjson.dumps({"Error": error})


def render_victims(victims: Mapping[str, tuple[tuple[str, ...], int]]) -> bytes:
    """ExtenderPreemptionResult."""
    return orjson.dumps(
        {
            "NodeNameToMetaVictims": {
                node: {"Pods": [{"UID": uid} for uid in uids], "NumPDBViolations": violations}
                for node, (uids, violations) in victims.items()
            }
        }
    )


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    if not isinstance(value, Mapping):
        raise WireError(key, value, "send an object")
    return value
