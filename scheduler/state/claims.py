"""Pods that hold cards by claims: the feed sees each with the grant that its claims give it.

kube-scheduler allocates claims by itself, and the pod does not say what it got. This joins the watches of pods, claims
and nodes, and passes a pod on again when a claim or a card becomes known after it.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from kerf.values.claim import Claim
from kerf.wire.claims import names_claims, parse_claim, with_claims
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, text_at, version_of
from kerf.wire.objects import is_finished
from scheduler.state.claim_waits import ClaimWaits
from scheduler.state.members import Members
from scheduler.state.store import Store


class ClaimingPods:
    """Takes what the watches see, and passes it on to the feed. Safe from several threads.

    Quota counts the claims themselves, whether their pods are bound or not: they are passed on to `allocations`.

    A pod event is passed on under the lock: the watch of claims could otherwise pass on a pod just after its deletion,
    and what it held would be counted until the next list.
    """

    def __init__(self, store: Store, vendor: str) -> None:
        self._feed = store.feed
        self._allocations = store.allocations
        self._vendor = vendor
        self._lock = threading.Lock()
        self._claims: dict[str, Claim] = {}
        self._pods: dict[str, Json] = {}
        """Bound pods that name claims, by uid."""
        self._on_node = Members()
        """Those pods by their node."""
        self._waits = ClaimWaits()
        store.allocations.follow(self.waiting)

    def waiting(self) -> Mapping[str, int]:
        """By namespace, the pods that wait for devices of Kerf's."""
        with self._lock:
            return self._waits.by_namespace()

    # ---- nodes
    def apply_node(self, kind: str, item: Json) -> None:
        """One node event."""
        self._feed.apply_node(kind, item)
        with self._lock:
            self._pass_again(self._on_node.of(text_at(item, "metadata", "name")))

    def replace_nodes(self, items: Iterable[dict[str, Any]]) -> None:
        """The whole list of nodes."""
        self._feed.replace_nodes(items)
        with self._lock:
            self._pass_again(self._pods)

    # ---- pods
    def apply_pod(self, kind: str, item: Json) -> None:
        """One pod event."""
        with self._lock:
            self._keep(kind, item)
            self._feed.apply_pod(kind, self._shown(item))

    def replace_pods(self, items: Iterable[dict[str, Any]]) -> None:
        """The whole list of pods."""
        with self._lock:
            for uid in list(self._pods):
                self._drop(uid)
            self._waits.forget_pods()

        def seen() -> Iterable[dict[str, Any]]:
            for item in items:
                with self._lock:
                    self._keep("MODIFIED", item)
                    shown = self._shown(item)
                yield dict(shown)

        self._feed.replace_pods(seen())

    # ---- claims
    def apply_claim(self, kind: str, item: Json) -> None:
        """One claim event."""
        claim = _read(item)
        if kind == "DELETED":
            self._allocations.forget(claim.uid)
        else:
            self._allocations.see(claim, version_of(item))
        with self._lock:
            if kind == "DELETED" or not claim.shares:
                self._claims.pop(claim.key, None)
            else:
                self._claims[claim.key] = claim
            self._waits.claim(kind, item)
            self._pass_again(uid for _, uid in claim.consumers)

    def replace_claims(self, items: Iterable[dict[str, Any]]) -> None:
        """The whole list of claims."""
        listed = [(_read(item), version_of(item), item) for item in items]
        self._allocations.replace((claim, version) for claim, version, _ in listed)
        with self._lock:
            self._claims = {claim.key: claim for claim, _, _ in listed if claim.shares}
            self._waits.forget_claims()
            for _, _, item in listed:
                self._waits.claim("ADDED", item)
            self._pass_again(self._pods)

    # ---- inside
    def _keep(self, kind: str, item: Json) -> None:
        self._waits.pod(kind, item)
        uid = text_at(item, "metadata", "uid")
        node = text_at(item, "spec", "nodeName")
        if kind == "DELETED" or is_finished(item) or not (names_claims(item) and node):
            self._drop(uid)
        else:
            self._pods[uid] = item
            self._on_node.put(uid, (node,))

    def _drop(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._on_node.put(uid, ())

    def _shown(self, pod: Json) -> Json:
        if not names_claims(pod):
            return pod
        cards = {card.id: card for card in self._feed.cards_on(text_at(pod, "spec", "nodeName"))}
        return with_claims(pod, self._claims, cards, self._vendor)

    def _pass_again(self, uids: Iterable[str]) -> None:
        for uid in uids:
            if (pod := self._pods.get(uid)) is not None:
                self._feed.apply_pod("MODIFIED", self._shown(pod))


def _read(item: Json) -> Claim:
    """What cannot be read of a claim holds nothing."""
    try:
        return parse_claim(item)
    except WireError:
        meta = at(item, "metadata")
        return Claim(text_at(meta, "namespace"), text_at(meta, "name"), text_at(meta, "uid"))
