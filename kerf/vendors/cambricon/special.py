"""Cambricon's profile. HAMi 2.10.0: `pkg/device/cambricon/device.go`, PatchAnnotations.

The pod can carry one profile: that of the first device of the first container that has one. So a pod asks for one card
in one container. Cambricon's plugin (cambricon-k8s-device-plugin, `pkg/mlu/podutils.go`) looks at app containers alone,
refuses a pod with two of them, and is called for `vmemory` and `vcore`, which therefore have to be in the pod.
"""

from collections.abc import Mapping

from kerf.values.ask import ContainerAsk, Stage
from kerf.values.vendor import Placement
from kerf.vendors.build import Special

PROFILE = "CAMBRICON_DSMLU_PROFILE"
OLDER = "CAMBRICON_DSMLU_ASSIGHED"
"""What older plugins call CAMBRICON_DSMLU_ASSIGNED, a misspelling of theirs."""
UNIT_MIB = 256


def refuses(ask: ContainerAsk) -> str:
    """Several cards with a part of their memory or cores: one profile says nothing of the second."""
    partial = ask.memory_mib is not None or ask.cores < 100
    return "ask for one card: the pod has one profile, for one slice" if ask.cards > 1 and partial else ""


def refuses_pod(asks: tuple[ContainerAsk, ...]) -> str:
    """Several containers, and init containers: the plugin serves neither."""
    if len(asks) > 1:
        return "the pod has one profile, for one container: ask for cards in one container"
    return "" if asks[0].stage is Stage.APP else "its plugin serves app containers alone: ask for cards in one of them"


def notes(placement: Placement) -> Mapping[str, str]:
    """`<index>_<cores>_<units of 256 MiB>` of the first slice."""
    first = next(slices[0] for _, slices in placement.of("cambricon") if slices)
    return {PROFILE: f"{placement.index(first)}_{first.cores}_{first.memory_mib // UNIT_MIB}", OLDER: "false"}


SPECIAL = Special(
    words={"refuses": refuses, "refuses_pod": refuses_pod, "fills": True},
    notes=notes,
    writes=frozenset({PROFILE, OLDER}),
)
