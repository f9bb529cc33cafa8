"""What claims ask for, before they are allocated: which devices, how many, how much of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from kerf.values.selector import Term


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A DeviceClass: its selectors in CEL, its extended resource, if any, and when it was made (empty: not known)."""

    name: str
    selectors: tuple[str, ...] = ()
    resource: str = ""
    made: str = ""


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector in CEL."""

    whose: str
    """`class NAME` or `request NAME`."""
    expression: str
    where: str = field(default="", compare=False)
    """The field that it is in."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One way to answer a request: so many devices, each with these amounts, that all selectors accept."""

    request: str
    """The name in the result: `request`, or `request/sub` of a list."""
    kind: str
    """The class."""
    count: int = 1
    all: bool = False
    amounts: tuple[tuple[str, Fraction], ...] = ()
    selectors: tuple[Selector, ...] = ()
    tolerations: tuple[Mapping[str, Any], ...] = ()
    where: str = field(default="", compare=False)
    """The field that it is in."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """Devices of these requests, all where none is named, have one value of an attribute, or each its own."""

    attribute: str
    distinct: bool = False
    requests: tuple[str, ...] = ()

    def covers(self, request: str) -> bool:
        """Whether it is about this request; `request/sub` is also named by `request`."""
        return not self.requests or request in self.requests or request.partition("/")[0] in self.requests


@dataclass(frozen=True, slots=True)
class ClaimAsk:
    """A claim that is not allocated. Each request has the ways to answer it, the most wanted first."""

    name: str
    requests: tuple[tuple[Wanted, ...], ...]
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceOption:
    """One way to answer a request on cards of a model: `count` devices that meet every condition, with these amounts.

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
