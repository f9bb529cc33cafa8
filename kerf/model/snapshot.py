"""A frozen picture of a cluster: what `kerf snapshot` dumps and `kerf simulate` replays."""

import hashlib
from dataclasses import dataclass

from kerf.model.ask import PodAsk
from kerf.model.grant import Holding
from kerf.model.node import Node


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Nodes, what running pods hold, and the pods that wait, each sorted by name."""

    nodes: tuple[Node, ...] = ()
    holdings: tuple[Holding, ...] = ()
    pending: tuple[PodAsk, ...] = ()

    def digest(self) -> str:
        """Twelve hex digits that name this state; equal states have equal digests under any hash seed."""
        parts = [repr(node) for node in sorted(self.nodes, key=lambda node: node.name)]
        parts += [repr(holding) for holding in sorted(self.holdings, key=lambda holding: (holding.pod, holding.uid))]
        parts += [repr(ask) for ask in sorted(self.pending, key=lambda ask: (ask.key, ask.uid))]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
