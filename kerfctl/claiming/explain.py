"""Why a pod with claims waits, and where kube-scheduler can allocate them."""

from typing import TYPE_CHECKING, Any

from kerf.wire.json import Json, at, items_at, text_at
from kerfctl.claiming.objects import node_of
from kerfctl.claiming.place import claim_places

if TYPE_CHECKING:
    from kerfctl.world import World
    from scheduler.state.store import Store

_FITS = "kube-scheduler can allocate it"


def explain_claims(world: "World", store: "Store", pod: Json, key: str) -> dict[str, Any] | None:
    """What is known of a pod that holds nothing yet; None for one without claims. Where `fits`, `nodes` say where."""
    places = claim_places(world, store)
    found = places.claiming(pod)
    if found is None:
        return None
    if isinstance(found, str):
        made = "its claims have not been made yet" if world.kube is not None and _unmade(pod) else found
        return {"pod": key, "fits": False, "sentence": made, "claims": [made]}
    where = places.where(found)
    sentences = [f"claim {text_at(claim, 'metadata', 'name')}: {_of(claim)}" for claim in found.claims]
    if not where.nodes:
        allocated = [text for text, claim in zip(sentences, found.claims, strict=True) if node_of(claim)]
        sentences = [*allocated, where.sentence]
    answer = {"pod": key, "fits": bool(where.nodes), "sentence": "; ".join(sentences), "claims": sentences}
    if where.nodes:
        return answer | {"nodes": list(where.nodes[:10])}
    unmet = store.allocations.unmet(text_at(pod, "metadata", "namespace") or "default")
    return answer | ({"guarantee": unmet} if unmet else {})


def _unmade(pod: Json) -> bool:
    """Whether Kubernetes has yet to make a claim of a template."""
    made = {text_at(each, "name") for each in items_at(pod, "status", "resourceClaimStatuses")}
    return any(text_at(ref, "name") not in made for ref in items_at(pod, "spec", "resourceClaims")
               if ref.get("resourceClaimTemplateName"))  # fmt: skip


def _of(claim: Json) -> str:
    if at(claim, "status", "allocation"):
        users = [text_at(user, "name") for user in items_at(claim, "status", "reservedFor")]
        return f"it is allocated on node {node_of(claim) or '?'} and reserved for {', '.join(users) or 'no pod'}"
    return _FITS
