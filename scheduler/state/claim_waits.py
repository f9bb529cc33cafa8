"""Pods that kube-scheduler has found no place for, and that ask for Kerf's devices: for each namespace, how many.

Kubernetes allocates claims, so nothing of such a pod is among the waiting pods of the store. The caller holds the lock.
"""

from collections import Counter

from kerf.wire.claim_requests import names_our_resource, names_ours
from kerf.wire.claims import claim_names, is_refused
from kerf.wire.json import Json, at, text_at

Key = tuple[str, str]
"""Namespace and name of a claim."""


class ClaimWaits:
    """Follows pods and claims."""

    def __init__(self) -> None:
        self._pods: dict[str, tuple[str, frozenset[str], bool]] = {}
        """By uid: namespace, the names of its claims, and whether it asks by an extended resource of Kerf's."""
        self._claims: set[Key] = set()
        """Claims of Kerf's devices that are not allocated."""

    def pod(self, kind: str, item: Json) -> None:
        """One pod event."""
        meta = at(item, "metadata")
        names, direct = frozenset(claim_names(item).values()), names_our_resource(item)
        if kind != "DELETED" and (names or direct) and is_refused(item):
            self._pods[text_at(meta, "uid")] = (text_at(meta, "namespace"), names, direct)
        else:
            self._pods.pop(text_at(meta, "uid"), None)

    def claim(self, kind: str, item: Json) -> None:
        """One claim event."""
        key = (text_at(item, "metadata", "namespace"), text_at(item, "metadata", "name"))
        if kind != "DELETED" and not at(item, "status", "allocation") and names_ours(item):
            self._claims.add(key)
        else:
            self._claims.discard(key)

    def forget_pods(self) -> None:
        """A new list of pods comes."""
        self._pods.clear()

    def forget_claims(self) -> None:
        """A new list of claims comes."""
        self._claims.clear()

    def by_namespace(self) -> Counter[str]:
        """How many such pods each namespace has."""
        return Counter(
            namespace
            for namespace, names, direct in self._pods.values()
            if direct or any((namespace, name) in self._claims for name in names)
        )
