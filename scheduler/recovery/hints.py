"""Where a training group's last checkpoint and its model cache are: noted by the group, kept by Kerf on its controller.

A program annotates its pod (`kerf.dev/checkpoint`, `kerf.dev/model-cache`). A pod that leaves takes its annotations
with it, so they are written onto its controller before; Kerf reads no checkpoint and moves none.
"""

from kerf.wire.json import Json, at, items_at

HINTS = ("kerf.dev/checkpoint", "kerf.dev/model-cache")
LONGEST = 4096
_PLURALS = {
    ("batch", "Job"): "jobs",
    ("jobset.x-k8s.io", "JobSet"): "jobsets",
    ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"): "leaderworkersets",
    ("kubeflow.org", "PyTorchJob"): "pytorchjobs",
    ("kubeflow.org", "MPIJob"): "mpijobs",
    ("kubeflow.org", "TFJob"): "tfjobs",
    ("kubeflow.org", "XGBoostJob"): "xgboostjobs",
    ("kubeflow.org", "PaddleJob"): "paddlejobs",
    ("kubeflow.org", "JAXJob"): "jaxjobs",
    ("ray.io", "RayCluster"): "rayclusters",
    ("ray.io", "RayJob"): "rayjobs",
}


def hints_of(pod: Json) -> dict[str, str]:
    """The hints that a pod gives."""
    notes = at(pod, "metadata", "annotations")
    return {key: str(notes[key])[:LONGEST] for key in HINTS if notes.get(key)}


def controller_path(pod: Json) -> str:
    """The path of the pod's controller, of a kind that runs groups; empty for others."""
    meta = at(pod, "metadata")
    for owner in items_at(meta, "ownerReferences"):
        group, _, version = str(owner.get("apiVersion") or "").rpartition("/")
        plural = _PLURALS.get((group, str(owner.get("kind") or "")))
        if owner.get("controller") is True and plural and owner.get("name"):
            namespace = meta.get("namespace") or "default"
            return f"/apis/{group}/{version}/namespaces/{namespace}/{plural}/{owner['name']}"
    return ""
