"""What the admission rules need to know of the installation."""

from dataclasses import dataclass, field

from kerf.model.policy import Defaults
from kerf.model.vendor import ResourceNames
from kerf.vendors.registry import NAMES


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the rules; a changed policy makes a new value."""

    vendors: tuple[ResourceNames, ...] = NAMES
    defaults: Defaults = field(default_factory=Defaults)
    scheduler_name: str = "kerf-scheduler"
    runtime_class: str = ""
    """RuntimeClass for pods that ask for cards and name none; empty leaves it to the node."""
    allowed_schedulers: frozenset[str] = frozenset()
    """Further schedulers that pods with cards may name, while a cluster moves over."""
    opted_out_cards: bool = False
    """Pods that opted out may ask for cards: other nodes offer them by another device plugin."""
    trusted: frozenset[str] = frozenset()
    """Users who may change on a live pod what only Kerf or HAMi's components write."""
