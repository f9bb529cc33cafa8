"""Extended resources: what nodes offer and what pods hold of them, counted as kube-scheduler does. Pure.

The slice resources are not counted here: where there is an inventory Kerf's device plugin offers them; cards decide.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kerf.values.ask import Stage
from kerf.values.served import similar
from kerf.values.units import milli
from kerf.values.vendor import ResourceNames
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at
from kerf.wire.objects import is_finished
from kerf.wire.resources import containers_of

Amounts = Mapping[str, int]
"""Thousandths, of which every quantity of devices or pages is a whole number."""
_NATIVE = frozenset({"cpu", "memory", "ephemeral-storage", "pods", "storage"})


class Offers:
    """What each node has, less what the pods bound to it ask. A node that says nothing of a resource offers none."""

    def __init__(self, nodes: Iterable[Json], pods: Iterable[Json], names: tuple[ResourceNames, ...]) -> None:
        self._ours = frozenset(word for words in names for word in (*words.all, *words.quota))
        self._free = {str(at(node, "metadata").get("name")): self._amounts(_allocatable(node)) for node in nodes}
        self._offered = frozenset(name for free in self._free.values() for name, amount in free.items() if amount > 0)
        for pod in pods:
            node = at(pod, "spec").get("nodeName")
            if node in self._free and not is_finished(pod):
                self.take(at(pod, "spec"), str(node))

    def asked(self, spec: Json) -> Amounts:
        """What a pod asks of extended resources, by the effective-request rule. What cannot be read is left out."""
        running: Counter[str] = Counter()
        peak: Counter[str] = Counter()
        try:
            listed = list(containers_of(spec))
        except WireError:
            return peak
        for container, stage in listed:
            resources = at(container, "resources")
            own = self._amounts({**at(resources, "limits"), **at(resources, "requests")})
            peak |= running + own
            if stage is not Stage.INIT:
                running += own
        return peak

    def take(self, spec: Json, node: str) -> None:
        """A pod was placed."""
        self._free[node].subtract(self.asked(spec))

    def lacks(self, asked: Amounts, node: str) -> str:
        """The first resource of which a node has too little; empty where it has enough."""
        free = self._free.get(node, Counter())
        return next((name for name, amount in sorted(asked.items()) if amount > free[name]), "")

    def unserved(self, asked: Amounts) -> Iterator[str]:
        """The resources that no node offers."""
        return (name for name in sorted(asked) if name not in self._offered)

    def explain(self, name: str) -> str:
        """A sentence for a resource that no node offers."""
        known = [*self._offered, *self._ours]
        near = similar(name, known)
        return f"no node offers {name}" + (f"; did you mean {near}?" if near else "")

    def _amounts(self, amounts: Json) -> "Counter[str]":
        found = Counter[str]()
        for name, value in amounts.items():
            if is_extended(name) and name not in self._ours:
                try:
                    found[name] = milli(value)
                except ValueError:
                    continue
        return found


def is_extended(name: str) -> bool:
    """Whether a resource is one that nodes must offer by name: a device plugin's, or huge pages."""
    if name.startswith("hugepages-"):
        return True
    return "/" in name and "kubernetes.io/" not in name and name not in _NATIVE


def _allocatable(node: Json) -> Json:
    status = at(node, "status")
    return at(status, "allocatable") or at(status, "capacity")
