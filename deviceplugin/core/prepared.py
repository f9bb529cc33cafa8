"""A pod's claims as CDI devices: which name each container gets, and what is answered for each claim. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from deviceplugin.core.start import Start
from kerf.values.claim import Claim, Division, Portion, Share


@dataclass(frozen=True, slots=True)
class ClaimRef:
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    """One device of a prepared claim, and the CDI device that a container with its request gets, if any."""

    share: Share
    pool: str
    cdi: str = ""


Prepared = Mapping[str, tuple[PreparedDevice, ...] | str]
"""By uid of the claim: its devices, or why it cannot be prepared."""


def spec_stem(pod_uid: str) -> str:
    """The name of the spec file of a pod's claims."""
    return f"claim-{pod_uid}"


def starts_of(pod_uid: str, division: Division) -> tuple[Start, ...]:
    """What has to be on disk: a CDI device a portion, with the ledger of its last container in start order."""
    return tuple(Start(p.containers[-1], (_name(pod_uid, i),)) for i, p in enumerate(division.portions))


def devices_of(pod_uid: str, division: Division, claim: Claim) -> tuple[PreparedDevice, ...]:
    """The answer for one claim.

    A container gets all that it holds by one CDI device, because the runtime merges nothing: two devices with the same
    mount would replace each other's ledger. The first share of a portion names it, the others name none.
    """
    named = {_key(p): _name(pod_uid, i) for i, p in enumerate(division.portions)}
    return tuple(PreparedDevice(share, claim.node, named.get((claim.uid, share), "")) for share in claim.shares)


def _key(portion: Portion) -> tuple[str, Share]:
    claim, share = portion.shares[0]
    return (claim.uid, share)


def _name(pod_uid: str, index: int) -> str:
    return f"{spec_stem(pod_uid)}-{index}"
