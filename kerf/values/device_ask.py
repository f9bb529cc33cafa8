"""What claims ask for, before anybody has allocated them: which devices, how many, how much of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kerf.values.selector import Term


@dataclass(frozen=True, slots=True)
class DeviceOption:
    """One way to answer a request: `count` devices that meet every selector, with these amounts of each.

    An amount that is not named is None.
    """

    selectors: tuple[Term, ...]
    count: int = 1
    memory_mib: int | None = None
    cores: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceAsk:
    """One request of a claim. The first option that the cards can answer counts."""

    options: tuple[DeviceOption, ...]


@dataclass(frozen=True, slots=True)
class ClaimTemplate:
    """A claim that each pod of a template gets for itself: the pod's own name for it, and its spec."""

    name: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Labels and annotations of each claim."""
