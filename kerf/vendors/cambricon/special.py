"""Cambricon's profile. HAMi 2.10.0: `pkg/device/cambricon/device.go`, PatchAnnotations.

The pod can carry one profile: that of the first device of the first container that has one. So a pod asks for one card
in one container; HAMi takes more, and its plugin then serves the first of them alone.
"""

from collections.abc import Mapping

from kerf.values.ask import ContainerAsk
from kerf.values.vendor import Placement
from kerf.vendors.build import Special

PROFILE = "CAMBRICON_DSMLU_PROFILE"
UNIT_MIB = 256


def refuses(ask: ContainerAsk) -> str:
    """Several cards with a part of their memory or cores: one profile says nothing of the second."""
    partial = ask.memory_mib is not None or ask.cores < 100
    return "ask for one card: the pod has one profile, for one slice" if ask.cards > 1 and partial else ""


def notes(placement: Placement) -> Mapping[str, str]:
    """`<index>_<cores>_<units of 256 MiB>` of the first slice."""
    first = next(slices[0] for _, slices in placement.of("cambricon") if slices)
    return {PROFILE: f"{placement.index(first)}_{first.cores}_{first.memory_mib // UNIT_MIB}"}


SPECIAL = Special(words={"refuses": refuses}, notes=notes, writes=frozenset({PROFILE}))
