"""Which pods Kerf may decide about beyond their cards: those of whose PodSpec it knows every field. Pure.

The express lane binds such pods itself, and filter names the node for those that prefer nothing.

What is read elsewhere (selector, affinity, tolerations, requests) is checked here for parts that are not.
"""

from collections.abc import Mapping

from kerf.wire.json import Json, at
from scheduler.core.pod_fields import FIELDS, first


def why_not(pod: Json) -> str:
    """The field that leaves a pod to kube-scheduler, with what it does; empty where the lane may take the pod."""
    if at(pod, "metadata").get("deletionTimestamp"):
        return "metadata.deletionTimestamp: the pod is ending"
    if at(pod, "status").get("nominatedNodeName"):
        return "status.nominatedNodeName: kube-scheduler has a node in mind for it"
    spec = pod.get("spec")
    if not isinstance(spec, Mapping):
        return "spec: there is none"
    if spec.get("hostNetwork") and spec.get("hostUsers") is False:
        return "spec.hostUsers: with hostNetwork it needs a feature that not every node has"
    return first(spec, FIELDS["PodSpec"], "spec")


def prefers(pod: Json) -> bool:
    """Whether kube-scheduler may have something to weigh for the pod itself; False only if it surely has not."""
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    return bool(why_not(pod) or at(pod, "spec", "affinity", "nodeAffinity").get(preferred))
