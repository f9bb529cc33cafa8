"""Evictions through the Eviction API, the only way in which Kerf removes a running pod."""

from dataclasses import dataclass

from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.objects import render_eviction


@dataclass(frozen=True, slots=True)
class Evicted:
    """The API server accepted the eviction; the pod is terminating."""


@dataclass(frozen=True, slots=True)
class AlreadyGone:
    """The pod does not exist any more."""


@dataclass(frozen=True, slots=True)
class NotEvicted:
    """The API server did not confirm the eviction: a PodDisruptionBudget, a missing right, no answer."""

    reason: str


def evict(kube: Kube, pod_key: str, uid: str, *, dry_run: bool = False) -> Evicted | AlreadyGone | NotEvicted:
    """Evict the pod `namespace/name` if it still has this uid. Never raises: callers retry in a later round.

    With `dry_run` the API server says what it would answer, and the pod stays.
    """
    namespace, _, name = pod_key.partition("/")
    query = {"dryRun": "All"} if dry_run else None
    try:
        kube.create(paths.eviction(namespace, name), render_eviction(namespace, name, uid), query)
    except NotFound:
        return AlreadyGone()
    except KubeError as error:
        return NotEvicted(str(error))
    return Evicted()
