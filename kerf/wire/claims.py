"""ResourceClaims and the pods that use them, as raw JSON, to values."""

from collections.abc import Mapping

from kerf.values.claim import Claim, ClaimUse, Share, divide, grant_of
from kerf.values.device import Card
from kerf.values.units import parse_quantity, to_mib
from kerf.wire.annotations import GRANT, render_grant
from kerf.wire.devices import CORES, DRIVER, MEMORY, card_of, partition_of
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import is_finished
from kerf.wire.resources import containers_of

CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
_BY_CLAIMS = "grantOfClaims"
"""Key of a pod that has its grant from `with_claims`. The API server keeps no such key, so no user writes it."""


def claim_path(namespace: str, name: str) -> str:
    """One ResourceClaim."""
    return f"/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}"


def parse_claim(item: Json) -> Claim:
    """A claim with its devices of Kerf's driver. Raises WireError where Kerf's part of it cannot be read."""
    meta, allocation = at(item, "metadata"), at(item, "status", "allocation")
    results = [r for r in items_at(allocation, "devices", "results") if r.get("driver") == DRIVER]
    reserved = (user for user in items_at(item, "status", "reservedFor") if user.get("resource") == "pods")
    return Claim(
        namespace=text_at(meta, "namespace") or "default",
        name=text_at(meta, "name"),
        uid=text_at(meta, "uid"),
        node=text_at(results[0], "pool") if results else "",
        shares=tuple(_share(result, f"status.allocation.devices.results[{i}]") for i, result in enumerate(results)),
        consumers=tuple((text_at(user, "name"), text_at(user, "uid")) for user in reserved),
        allocated=bool(allocation),
    )


def names_claims(pod: Json) -> bool:
    """Whether a pod uses any claim."""
    return bool(at(pod, "spec").get("resourceClaims") or at(pod, "status").get("extendedResourceClaimStatus"))


def is_refused(pod: Json) -> bool:
    """Whether kube-scheduler has looked for a node for a pod that lives, and found none."""
    if text_at(pod, "spec", "nodeName") or at(pod, "metadata").get("deletionTimestamp") or is_finished(pod):
        return False
    said = next((c for c in items_at(pod, "status", "conditions") if c.get("type") == "PodScheduled"), {})
    return said.get("status") == "False" and said.get("reason") != "SchedulingGated"


def claim_names(pod: Json) -> dict[str, str]:
    """The names of a pod's ResourceClaims by its own names for them; "" is the one made for extended resources.

    A claim that is not made yet, or not needed, is left out.
    """
    made = {
        text_at(s, "name"): text_at(s, "resourceClaimName") for s in items_at(pod, "status", "resourceClaimStatuses")
    }
    listed = {
        text_at(ref, "name"): text_at(ref, "resourceClaimName") or made.get(text_at(ref, "name"), "")
        for ref in items_at(pod, "spec", "resourceClaims")
    }
    listed[""] = text_at(pod, "status", "extendedResourceClaimStatus", "resourceClaimName")
    return {own: name for own, name in listed.items() if name}


def claim_uses(pod: Json) -> tuple[ClaimUse, ...]:
    """What each container names of the pod's claims, in start order."""
    names = claim_names(pod)
    mapped = items_at(pod, "status", "extendedResourceClaimStatus", "requestMappings")
    uses = []
    for container, stage in containers_of(at(pod, "spec")):
        name = text_at(container, "name")
        refs = items_at(container, "resources", "claims")
        requests = [(names.get(text_at(ref, "name"), ""), text_at(ref, "request")) for ref in refs]
        requests += [(names.get("", ""), text_at(m, "requestName")) for m in mapped if m.get("containerName") == name]
        uses.append(ClaimUse(name, stage, tuple(pair for pair in requests if pair[0])))
    return tuple(uses)


def with_claims(pod: Json, claims: Mapping[str, Claim], cards: Mapping[str, Card], vendor: str) -> Json:
    """A bound pod with the grant that its claims give it, for readers of grants. Nobody stores it.

    `claims` are by `namespace/name`. The pod stays as it is while one of its claims is not known or is not its own,
    while a whole card is not known, and where it has a grant of its own.
    """
    meta, node = at(pod, "metadata"), text_at(pod, "spec", "nodeName")
    if not node or not names_claims(pod) or GRANT in at(meta, "annotations"):
        return pod
    namespace, uid = text_at(meta, "namespace") or "default", text_at(meta, "uid")
    known = {name: claims.get(f"{namespace}/{name}") for name in claim_names(pod).values()}
    own = {name: c for name, c in known.items() if c and c.node == node and uid in {user for _, user in c.consumers}}
    shares = [share for claim in own.values() for share in claim.shares if not share.admin]
    if not shares or any(share.memory_mib is None and share.card not in cards for share in shares):
        return pod
    grant = grant_of(divide(claim_uses(pod), own), cards, vendor)
    notes = {**at(meta, "annotations"), GRANT: render_grant(grant)}
    return {**pod, "metadata": {**meta, "annotations": notes}, _BY_CLAIMS: True}


def is_by_claims(pod: Json) -> bool:
    """Whether `with_claims` gave the pod its grant."""
    return pod.get(_BY_CLAIMS) is True


def without_claims(pod: Json) -> Json:
    """The pod as it was before `with_claims`."""
    if not is_by_claims(pod):
        return pod
    notes = {key: value for key, value in at(pod, "metadata", "annotations").items() if key != GRANT}
    rest = {key: value for key, value in pod.items() if key != _BY_CLAIMS}
    return {**rest, "metadata": {**at(pod, "metadata"), "annotations": notes}}


def _share(result: Json, where: str) -> Share:
    device, consumed = text_at(result, "device"), result.get("consumedCapacity")
    part = partition_of(device)
    found = (part[0], True) if part else card_of(device)
    if found is None:
        raise WireError(f"{where}.device", device, "delete the claim: this is no device that Kerf publishes")
    card, whole = found
    request, share_id = text_at(result, "request").partition("/")[0], text_at(result, "shareID")
    admin, partition = result.get("adminAccess") is True, part[1:] if part else None
    share = Share(request, device, card, share_id=share_id, admin=admin, partition=partition)
    if whole:
        return share
    if not isinstance(consumed, dict):
        raise WireError(f"{where}.consumedCapacity", consumed, "delete the claim: a slice needs Kubernetes 1.36")
    try:
        cores = parse_quantity(consumed.get(CORES, 0))
        memory = to_mib(consumed.get(MEMORY))
    except ValueError as error:
        raise WireError(f"{where}.consumedCapacity", consumed, f"delete the claim ({error})") from error
    whole_cores = -(-cores.numerator // cores.denominator)
    return Share(request, device, card, memory, whole_cores, share.share_id, share.admin)
