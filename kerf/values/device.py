"""A card as a node reports it."""

from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Self

from kerf.values.allocator import Allocator
from kerf.values.health import HEALTHY, Health
from kerf.values.mig import Geometry
from kerf.values.quick import quick
from kerf.values.slicing import ANY_SIZE, Slicing


class Mode(StrEnum):
    """How a card is shared. A card is in one mode at a time; its vendor says how it is sliced in it (`slicing`)."""

    SHARED = "shared"  # formats say `shared`, people say `preload`
    MIG = "mig"
    MPS = "mps"

    @property
    def word(self) -> str:
        """The mode as people write and read it."""
        return "preload" if self is Mode.SHARED else self.value


MODE_WORDS = (*((mode.word, mode.value) for mode in Mode), (Mode.SHARED.value, Mode.SHARED.value))
"""Words for a mode, and the mode that each means."""


class Backend(StrEnum):
    """What keeps the slices of a card: the strongest that the card, its driver and its pool allow."""

    UNSAID = ""  # another plugin's card, or the inventory of an older Kerf
    OBSERVE = "observe"  # nothing; use is seen and reported
    PRELOAD = "preload"  # the limiter in the containers' processes
    NATIVE = "native"  # the driver keeps memory (r615 and newer), the limiter shares GPU time
    MPS = "mps"  # an MPS daemon that Kerf runs, and the limiter
    NATIVE_MPS = "native-mps"  # the driver keeps memory, an MPS daemon that Kerf runs divides the SMs
    MIG = "mig"  # the hardware

    @property
    def native(self) -> bool:
        """Whether the driver itself refuses memory beyond a pod's slices."""
        return self in {Backend.NATIVE, Backend.NATIVE_MPS}

    @property
    def through_mps(self) -> bool:
        """Whether programs share the card through an MPS daemon that Kerf runs."""
        return self in {Backend.MPS, Backend.NATIVE_MPS}

    def with_native(self) -> "Backend":
        """The same, with memory kept by the driver."""
        return Backend.NATIVE_MPS if self.through_mps else Backend.NATIVE


NO_LIMITS = "its driver knows no limits of memory (r615 and newer do)"


@quick
@dataclass(frozen=True, slots=True)
class Card:
    """One physical card.

    `memory_mib` and `cores` (percent of SMs, 100 a card) are what the card may grant, over-commitment included;
    `slots` is how many slices it may hold at once. `factory_memory_mib` is what the hardware has: a percentage
    refers to it, and one slice can never be larger.
    """

    id: str
    index: int
    vendor: str
    model: str
    memory_mib: int
    cores: int = 100
    slots: int = 10
    numa: int = 0
    mode: Mode = Mode.SHARED
    health: Health = HEALTHY
    links: tuple[str, ...] = ()
    """Ids of cards joined to this one by NVLink."""
    physical_mib: int = 0
    """Memory of the hardware where `memory_mib` is over-committed; 0 means the same."""
    reserved_mib: int = 0
    """What the driver keeps of the hardware's memory for itself, beside all other amounts."""
    slicing: Slicing = ANY_SIZE
    """Set by the card's vendor where the card is read; not part of the inventory."""
    bus: str = ""
    """The card's address on the PCI bus, `0000:5d:00`, by which the kernel log names it; empty where not known."""
    driver: str = ""
    """The version of its driver, `570.86.15`; empty where not known."""
    backend: Backend = Backend.UNSAID
    """What keeps its slices."""
    joint: bool = True
    """False: a container that shares it can hold no other card, because each has an MPS daemon of its own, or because a
    program uses one MIG instance."""
    no_mps: str = ""
    """Why the hardware cannot be shared through MPS; empty where it can. Not part of the inventory."""
    no_limits: str = NO_LIMITS
    """Why the driver cannot keep limits of the card's memory; empty where it can. Not part of the inventory."""
    mode_note: str = ""
    """Why the card is not in the mode that its pool asks for, or its driver keeps no limits; empty where all is so."""
    mig: Geometry | None = None
    """Profiles, placements and the instances that are not Kerf's, of a card in MIG mode."""
    allocator: Allocator = Allocator.EXTENDER
    """Who hands out the card."""
    facts: tuple[tuple[str, str], ...] = ()
    """What the vendor's own device plugin says of the card, and will want to read again in a grant. Empty for cards
    that Kerf's device plugin serves."""

    @property
    def healthy(self) -> bool:
        """Whether the card takes new slices."""
        return self.health.takes_slices

    @property
    def factory_memory_mib(self) -> int:
        """Memory of the hardware in MiB."""
        return self.physical_mib or self.memory_mib

    def fact(self, name: str) -> str:
        """One of the facts, empty where the plugin does not say."""
        return dict(self.facts).get(name, "")

    def in_mig(self, geometry: Geometry) -> Self:
        """The same card in MIG mode: it may grant what the largest instance has, less the instances that others made.

        What the driver reports for the card beyond that counts as reserved, so that an ask for it is the whole card.
        """
        largest = geometry.largest
        if largest is None:
            return replace(self, mode=Mode.MIG, mig=geometry)
        memory, cores = geometry.taken_amounts
        total = self.factory_memory_mib + self.reserved_mib
        return replace(
            self,
            mode=Mode.MIG,
            mig=geometry,
            backend=Backend.MIG,
            joint=False,
            memory_mib=max(largest.memory_mib - memory, 0),
            physical_mib=largest.memory_mib,
            reserved_mib=max(total - largest.memory_mib, 0),
            cores=max(100 - cores, 0),
            slots=geometry.slots,
        )

    def overcommitted(self, memory: float, cores: float) -> Self:
        """The same card with its grantable memory and cores multiplied (factors ≥ 1 over-commit).

        Sizes that the hardware fixes cannot be over-committed.
        """
        if self.slicing.fixed:
            return self
        return replace(
            self,
            memory_mib=int(self.factory_memory_mib * memory),
            cores=int(self.cores * cores),
            physical_mib=self.factory_memory_mib,
        )


BY_INDEX = attrgetter("index", "id")
"""The order of a node's cards."""
