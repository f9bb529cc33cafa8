"""What a pod demands of nodes, as one text that is equal for pods that demand the same.

Kubernetes taints nodes for what passes (`node.kubernetes.io/not-ready`) and lets pods tolerate it for a while. That is
left out: it says nothing about which nodes a pod is meant for.
"""

import json
from collections.abc import Iterable
from functools import lru_cache

from kerf.values.node import Taint
from kerf.wire.json import Json, at, items_at

PASSING = "node.kubernetes.io/"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def demand_of(spec: Json) -> str:
    """The node selector, the required node affinity and the tolerations of a pod with this spec; "" for none.

    Nor is anything said of nodes by what is nested too deep to write down.
    """
    said: dict[str, object] = {}
    if selector := at(spec, "nodeSelector"):
        said["nodeSelector"] = dict(selector)
    if "affinity" in spec and (required := at(spec, "affinity", "nodeAffinity").get(_REQUIRED)):
        said["affinity"] = {"nodeAffinity": {_REQUIRED: required}}
    if tolerations := [each for each in items_at(spec, "tolerations") if not _passes(each.get("key"))]:
        said["tolerations"] = tolerations
    try:
        return json.dumps(said, sort_keys=True, default=str) if said else ""
    except RecursionError:
        return ""


@lru_cache(maxsize=1024)
def read_demand(text: str) -> Json:
    """The parts of a pod's spec that a demand was made of."""
    found: Json = json.loads(text) if text else {}
    return found


def lasting_taints(taints: Iterable[Taint]) -> tuple[Taint, ...]:
    """Those that say which pods a node is meant for."""
    return tuple(taint for taint in taints if not _passes(taint.key))


def _passes(key: object) -> bool:
    return isinstance(key, str) and key.startswith(PASSING)
