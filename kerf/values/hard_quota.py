"""ResourceQuota objects as values: what a namespace may hold of each vendor's cards, and which of its pods count."""

from dataclasses import dataclass

from kerf.values.quota import Bound
from kerf.values.traits import Scope, Traits


@dataclass(frozen=True, slots=True)
class HardLimit:
    """One ResourceQuota object: an upper bound by vendor for the pods that all its scopes take."""

    name: str
    bounds: tuple[tuple[str, Bound], ...]
    scopes: tuple[Scope, ...] = ()
    problems: tuple[str, ...] = ()
    """A sentence for each amount that is not counted as it is written."""

    def takes(self, pod: Traits | None) -> bool:
        """Whether a pod counts. None is a claim: what it holds counts, whatever the pods that use it."""
        return pod is None or all(scope.takes(pod) for scope in self.scopes)


@dataclass(frozen=True, slots=True)
class HardQuota:
    """What limits one namespace: a pod has to pass every object that counts it."""

    limits: tuple[HardLimit, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is not counted as it is written, each with the object's name."""
        return tuple(f"ResourceQuota {limit.name}: {problem}" for limit in self.limits for problem in limit.problems)
