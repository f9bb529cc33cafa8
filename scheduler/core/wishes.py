"""What a pod prefers among nodes, in the points that kube-scheduler gives with the profile that Kerf ships. Pure.

Preferred node affinity and taints that only advise weigh the same there, and each point of them more than any place in
Kerf's own order.
"""

from dataclasses import dataclass

from scheduler.core.columns import Bools, Ints

BEST = 100


@dataclass(frozen=True, slots=True)
class Wishes:
    """Per node: the sum of the weights of the preferred terms that match it, and its advising taints not tolerated."""

    weights: Ints
    taints: Ints

    def points(self, fits: Bools) -> Ints:
        """The points of every node, scaled by the largest value among the nodes that fit."""
        return _share(self.weights, fits) + BEST - _share(self.taints, fits)


def _share(values: Ints, fits: Bools) -> Ints:
    most = int(values[fits].max(initial=0))
    found: Ints = values * BEST // most if most else values * 0
    return found
