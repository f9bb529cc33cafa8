"""NodePrepareResources and NodeUnprepareResources: find the pod of the claims, then ask the gate.

Nothing is remembered between calls but what the gate has on disk: the same claims give the same answer after any
restart. The API server is read for each claim, because the kubelet names claims and says nothing of what they hold.
"""

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from deviceplugin.core.prepared import ClaimRef, Prepared, devices_of, spec_stem, starts_of
from deviceplugin.core.refusal import StartRefusal, Why
from deviceplugin.gate.pods import PodList, meta
from deviceplugin.gate.start import CLAIMS, StartGate
from deviceplugin.kubelet.retry import until_deadline
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Json, Kube
from kerf.kube.errors import NotFound
from kerf.values.claim import Claim, Division, divide, grant_of
from kerf.values.grant import Grant, Holding
from kerf.wire.annotations import GRANT
from kerf.wire.claims import claim_names, claim_path, claim_uses, parse_claim
from kerf.wire.errors import WireError
from kerf.wire.json import at
from kerf.wire.objects import is_finished
from kerf.wire.resources import stages_of

_LOG = logging.getLogger("kerf.deviceplugin.dra")
READERS = 16
"""Lists of pods that may be under way beside their claims; further ones wait their turn."""


class Preparer:
    """Prepares and releases claims of `vendor`'s cards. Safe from several threads."""

    def __init__(self, kube: Kube, gate: StartGate, node: LocalNode, vendor: str, changed: Callable[[], None]) -> None:
        self._kube = kube
        self._gate = gate
        self._node = node
        self._vendor = vendor
        self._changed = changed
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="claims-pods")

    def prepare(self, refs: Sequence[ClaimRef], budget_s: float) -> Prepared:
        """An answer for each of the claims. Raises Unavailable where the API server does not answer in time."""
        answers: dict[str, Any] = {}

        def attempt() -> StartRefusal | None:
            answers.clear()
            return self._prepare(refs, answers)

        refusal = until_deadline(attempt, budget_s)
        if refusal is not None:
            _LOG.warning("%s", refusal.message)
            return {ref.uid: refusal.message for ref in refs}
        self._changed()
        return answers

    def release(self, refs: Sequence[ClaimRef]) -> None:
        """The pods of these claims have ended. A claim of which nothing is known is released already."""
        uids = {ref.uid for ref in refs}
        for pod, grant in self._gate.pods.claimed().items():
            if uids & set(_claims_of(grant)):
                self._gate.release_claims(pod, spec_stem(pod))
                self._changed()

    # ---- inside
    def _prepare(self, refs: Sequence[ClaimRef], answers: dict[str, Any]) -> StartRefusal | None:
        # Two answers of the API server take as long as the slower one.
        listing = self._readers.submit(self._gate.pods.list)
        waiting = list(refs)
        while waiting:
            claim = self._claim(waiting[0])
            if isinstance(claim, StartRefusal):
                return claim
            pod = self._pod_of(claim, listing.result())
            if isinstance(pod, StartRefusal):
                return pod
            own = set(claim_names(pod[0]).values())
            mine = [ref for ref in waiting if ref.namespace == claim.namespace and ref.name in own]
            refusal = self._prepare_pod(*pod, mine, {claim.name: claim}, answers)
            if refusal is not None:
                return refusal
            waiting = [ref for ref in waiting if ref not in mine]
        return None

    def _claim(self, ref: ClaimRef) -> Claim | StartRefusal:
        name = f"{ref.namespace}/{ref.name}"
        try:
            claim = parse_claim(self._kube.get(claim_path(ref.namespace, ref.name)))
        except NotFound:
            return StartRefusal(Why.BAD_CLAIM, f"claim {name} does not exist")
        except WireError as error:
            return StartRefusal(Why.BAD_CLAIM, f"claim {name}: {error}")
        problem = self._problem(claim, ref)
        return StartRefusal(Why.BAD_CLAIM, f"claim {name} {problem}") if problem else claim

    def _problem(self, claim: Claim, ref: ClaimRef) -> str:
        if ref.uid and claim.uid != ref.uid:
            return f"is another one ({claim.uid}) than the kubelet means ({ref.uid}): delete the pod"
        if not claim.allocated:
            return "is not allocated"
        if claim.node and claim.node != self._node.name:
            return f"holds cards of node {claim.node}, not of {self._node.name}"
        if any(share.admin for share in claim.shares):
            return "asks for adminAccess, which gpu.kerf.dev does not give: it would bypass every slice of the card"
        own = bool(claim.shares or ref.uid)  # other drivers' claims may serve several pods
        if own and len(claim.consumers) != 1:
            users = ", ".join(name for name, _ in claim.consumers) or "no pod"
            return f"is reserved for {users}: a slice belongs to one pod, so give each pod a claim of its own"
        return ""

    def _pod_of(self, claim: Claim, cached: PodList) -> tuple[Json, PodList] | StartRefusal:
        name, uid = claim.consumers[0]
        for fresh in (False, True):
            listing = self._gate.pods.list(fresh=True) if fresh else cached
            found = listing.by_uid(uid)
            if found is not None and set(claim_names(found).values()) >= {claim.name}:
                return found, listing
        message = f"claim {claim.key} is reserved for pod {name}, which is not bound to node {self._node.name}"
        return StartRefusal(Why.NOT_HERE, message, lasting=False)

    def _prepare_pod(
        self, pod: Json, listing: PodList, refs: list[ClaimRef], claims: dict[str, Claim], answers: dict[str, Any]
    ) -> StartRefusal | None:
        """Prepare a pod's claims, of which some are read already."""
        namespace, uid = meta(pod, "namespace"), meta(pod, "uid")
        expected = {ref.name: ref for ref in refs}
        for name in claim_names(pod).values():
            if name in claims:
                continue
            claim = self._claim(expected.get(name, ClaimRef(namespace, name, "")))
            if isinstance(claim, StartRefusal):
                return claim
            claims[name] = claim
        division = divide(claim_uses(pod), claims)
        refusal = self._admit(pod, listing, division, claims) if any(c.shares for c in claims.values()) else None
        if refusal is None:
            answers.update({ref.uid: devices_of(uid, division, claims[ref.name]) for ref in refs})
        return refusal

    def _admit(self, pod: Json, listing: PodList, division: Division, claims: dict[str, Claim]) -> StartRefusal | None:
        name, uid = f"{meta(pod, 'namespace')}/{meta(pod, 'name')}", meta(pod, "uid")
        if is_finished(pod):
            return StartRefusal(Why.NOT_HERE, f"pod {name} has finished")
        if GRANT in at(pod, "metadata", "annotations"):
            message = f"pod {name} asks for cards by extended resources and by claims: use one of them"
            return StartRefusal(Why.BAD_CLAIM, message)
        if division.problem:
            return StartRefusal(Why.BAD_CLAIM, f"pod {name}: {division.problem}")
        cards, held = {card.id: card for card in self._node.cards}, [s for c in claims.values() for s in c.shares]
        wrong = (share.misplaced(cards[share.card]) for share in held if share.card in cards)
        if problem := next(filter(None, wrong), ""):
            return StartRefusal(Why.BAD_CLAIM, f"pod {name}: {problem}")
        cards = {card.id: card for card in self._node.cards}
        uids = json.dumps(sorted(claim.uid for claim in claims.values() if claim.shares))
        grant = replace(grant_of(division, cards, self._vendor), extra=((CLAIMS, uids),))
        holding = Holding(name, uid, self._node.name, grant, stages_of(at(pod, "spec")))
        starts = starts_of(uid, division)
        return self._gate.admit_claims(pod, holding, listing, (spec_stem(uid), self._vendor), starts)


def _claims_of(grant: Grant) -> tuple[str, ...]:
    return tuple(json.loads(dict(grant.extra).get(CLAIMS, "[]")))
