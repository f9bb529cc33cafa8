"""What HAMi's scheduler recorded of a pod that it bound. What that means depends on the cards of the pod's node."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kerf.values.device import Card
from kerf.values.grant import Slice

Device = tuple[str, str, int, int]
"""A device as HAMi writes it: id, type, MiB, cores in the vendor's own units."""
Held = Callable[[tuple[Device, ...], Mapping[str, Card], str], tuple[Slice, ...]]
"""The slices of a container, by its devices, the node's cards by id and the pod's group (`ContainerAsk.group`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One container's devices of one vendor."""

    vendor: str
    container: str
    devices: tuple[Device, ...]
    group: str = ""


Record = tuple[Part, ...]
"""All that a pod holds."""
