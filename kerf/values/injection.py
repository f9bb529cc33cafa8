"""What a container is given for its slices: environment and mounts, as a vendor's `inject` returns them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kerf.values.grant import Slice

INSIDE = "/usr/local/kerf"
"""Directory of all Kerf files inside a container."""
LIBRARY = f"{INSIDE}/libkerf.so"
"""The limiter inside a container."""
LimiterPolicy = Literal["cap", "weight", "priority"]


@dataclass(frozen=True, slots=True)
class Mount:
    """A bind mount of a host path into the container."""

    host: str
    container: str
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class Injection:
    """A vendor's part of a container: environment and mounts."""

    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFiles:
    """Host paths that containers are given. `limiter` and `preload` are empty where no limiter is installed."""

    limiter: str = ""
    """libkerf.so."""
    preload: str = ""
    """A file that holds the one line `/usr/local/kerf/libkerf.so`."""
    arbiters: tuple[tuple[str, str], ...] = ()
    """(card id, file) of the node-wide arbiters."""
    specs: tuple[tuple[str, Mapping[str, Any]], ...] = field(default=())
    """(card id, `containerEdits`) of the node's own CDI specs for whole cards, and (UUID, …) for MIG instances."""
    ledger: str = ""
    """The container's ledger."""
    mps: tuple[tuple[str, str], ...] = ()
    """(card id, pipe directory) of the MPS daemons of cards that the container shares through them."""
    instances: tuple[tuple[str, int, str], ...] = ()
    """(card id, place, UUID) of the pod's MIG instances."""

    def name_of(self, piece: Slice) -> str:
        """What the runtime and programs call a slice's device: its instance, or the card."""
        return next(
            (uuid for card, place, uuid in self.instances if (card, place) == (piece.card, piece.place)), piece.card
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """How the limiter treats one container."""

    policy: LimiterPolicy = "cap"
    priority: int = 1
    limited: bool = True
    """False: the ledger is there, the library is not loaded (the container opted out on a node that allows it)."""
    privileged: bool = False
    """The runtime hides no device from the container, so its slices must be named to the vendor's library."""
