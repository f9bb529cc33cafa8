"""What is written to one cluster: its parts of workloads, and the removal of what is not, or no longer, its own."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound
from kerf.wire.fleet import LABEL_CLUSTER, LABEL_EPOCH, LABEL_MANAGER, LABEL_WORKLOAD, slug
from kerf.wire.fleet_places import FLEET_PLACES
from kerf.wire.fleet_places import KIND as PLACES
from kerf.wire.json import Json, at
from scheduler.fleet.claims import TEMPLATES
from scheduler.fleet.places import outdated
from scheduler.fleet.render import DEPLOYMENTS, LEADER_WORKER_SETS

_LOG = logging.getLogger("kerf.fleet")
FIELD_MANAGER = "kerf-fleet"
MARK = "fleet.kerf.dev/decided"
LISTS = (f"{DEPLOYMENTS}/deployments", f"{LEADER_WORKER_SETS}/leaderworkersets")
"""What makes pods."""
LATER = (TEMPLATES, FLEET_PLACES)
"""What a credential that an earlier Kerf wrote may not read, so the fleet has made none there."""
ALL = (*LISTS, *LATER)
"""Templates of claims come last, so that no controller loses its pods' template before it is gone."""
LONGEST_GRACE_S = 3
"""Pods of an older epoch get at most so long to end: others run in their place already."""
_DELETE = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}


def apply_part(kube: Kube, path: str, body: Mapping[str, Any]) -> None:
    """Create or update an object, and its namespace where that is missing. Raises KubeError."""
    query = {"fieldManager": FIELD_MANAGER, "force": "true"}
    try:
        kube.patch(path, body, "apply", query)
    except NotFound:
        name = str(body["metadata"]["namespace"])
        with contextlib.suppress(Conflict):
            kube.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        kube.patch(path, body, "apply", query)


def hand_over(
    kube: Kube, fleet: str, wanted: Mapping[str, Json], spared: Collection[str], *, queued: bool = False
) -> None:
    """Make the fleet's objects in a cluster those that are wanted, by path. Those of `spared` workloads stay.

    What is there already is written again only where it differs in what the fleet decides. What goes through MultiKueue
    (`queued`) and what is handed over directly do not see each other. An object that the cluster refuses keeps no other
    back. Raises KubeError, of the first refusal at the end.
    """
    refused: KubeError | None = None
    listed = owned(kube, fleet, lists=LISTS if queued else ALL)
    there = {path: item for path, item in listed if bool(_label(item, LABEL_CLUSTER)) is queued}
    places = {path: body for path, body in wanted.items() if body["kind"] == PLACES}
    kept = places if not outdated(there, places) or not _serves(kube, FLEET_PLACES) else {}
    for path, body in wanted.items():
        if path not in kept and (path not in there or _differs(there[path], body)):
            notes = {**at(body, "metadata", "annotations"), MARK: mark(body)}
            try:
                apply_part(kube, path, {**body, "metadata": {**body["metadata"], "annotations": notes}})
            except (Invalid, Forbidden, Conflict, NotFound) as error:
                _LOG.warning("%s is refused: %s", path, error)
                refused = refused or error
    for path, item in there.items():
        if path not in wanted and _label(item, LABEL_WORKLOAD) not in spared:
            _LOG.info("removing %s", path)
            _delete(kube, path, _DELETE)
    if refused is not None:
        raise refused


def _differs(item: Json, body: Json) -> bool:
    """Whether another decision was handed over before, or somebody has scaled the object since."""
    written = at(item, "metadata", "annotations").get(MARK)
    return written != mark(body) or at(item, "spec").get("replicas") != body["spec"].get("replicas")


def mark(body: Json) -> str:
    """A digest of what was decided, so that an unchanged object is not written again."""
    return hashlib.sha256(json.dumps(body["spec"], sort_keys=True).encode()).hexdigest()[:16]


def remove_epochs(kube: Kube, fleet: str, cluster: str, epoch: int) -> bool:
    """Delete everything that the fleet has in a cluster of another epoch; whether nothing of it was left.

    Controllers go first, so that no pod comes again. A pod that is being deleted gets no traffic from Services.
    """
    clean = True
    for path, item in owned(kube, fleet, cluster):
        if _label(item, LABEL_EPOCH) != str(epoch):
            clean = False
            _delete(kube, path, _DELETE)
    pods, _ = kube.list(paths.PODS, {"labelSelector": f"{LABEL_MANAGER}={slug(fleet)}"})
    for pod in pods:
        mine = _label(pod, LABEL_MANAGER) == slug(fleet) and is_for(pod, cluster)
        if not mine or _label(pod, LABEL_EPOCH) == str(epoch):
            continue
        clean = False
        meta = pod["metadata"]
        if not meta.get("deletionTimestamp"):
            own = at(pod, "spec").get("terminationGracePeriodSeconds")
            grace = min(own, LONGEST_GRACE_S) if isinstance(own, int) else LONGEST_GRACE_S
            _delete(
                kube, paths.pod(str(meta["namespace"]), str(meta["name"])), {**_DELETE, "gracePeriodSeconds": grace}
            )
    return clean


def owned(kube: Kube, fleet: str, cluster: str | None = None, lists: Sequence[str] = ALL) -> list[tuple[str, Json]]:
    """What the fleet has at an API server, by path; what is for one cluster alone, if that is named."""
    found: list[tuple[str, Json]] = []
    for listed in lists:
        root, _, plural = listed.rpartition("/")
        try:
            items, _ = kube.list(listed, {"labelSelector": f"{LABEL_MANAGER}={slug(fleet)}"})
        except NotFound:
            continue  # the cluster has no LeaderWorkerSets, or no claims
        except Forbidden:
            if listed not in LATER:
                raise
            continue
        for item in items:
            if _label(item, LABEL_MANAGER) == slug(fleet) and (cluster is None or is_for(item, cluster)):
                meta = item["metadata"]
                found.append((f"{root}/namespaces/{meta['namespace']}/{plural}/{meta['name']}", item))
    return found


def _serves(kube: Kube, listed: str) -> bool:
    """Whether a cluster knows a kind, and lets the fleet use it: not where its Kerf, or the credential, is older."""
    try:
        kube.list(listed, {"labelSelector": LABEL_MANAGER})
    except (NotFound, Forbidden):
        return False
    return True


def is_for(item: Json, cluster: str) -> bool:
    """Whether something is for the cluster in which it was seen; the manager cluster has what is for others, too."""
    return _label(item, LABEL_CLUSTER) in ("", cluster)


def _delete(kube: Kube, path: str, body: Mapping[str, Any]) -> None:
    try:
        kube.delete(path, body)
    except NotFound:
        pass
    except KubeError:
        _LOG.warning("%s could not be removed", path)
        raise


def _label(item: Json, key: str) -> str:
    return str(at(item, "metadata", "labels").get(key, ""))
