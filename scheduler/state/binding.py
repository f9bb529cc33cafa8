"""One bind of one pod: begin it, assume its grant, and take the assumption back if the API server refuses."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import Grant
from kerf.values.verdict import Misfit
from scheduler.state.ledger import Ledger
from scheduler.state.pending import Waiting

Assume = Callable[[PodAsk, str, Stages], Grant | Misfit]


@dataclass(frozen=True, slots=True)
class Assumption:
    """A grant that is charged before the API server knows of it."""

    grant: Grant
    _uid: str
    _node: str
    _ledger: Ledger
    _first: bool = True
    """Whether this bind has charged the pod; False where an earlier one did, whose Binding may yet take effect."""

    def still_held(self) -> bool:
        """Whether the pod is still charged on the node, by this assumption or because the watch shows it bound."""
        return self._ledger.holds(self._uid, self._node)

    def undo(self) -> None:
        """Take it back. No-op once the watch shows the pod bound, and for what an earlier bind has charged.

        What came of the earlier one only the API server knows: `placing.expire` asks.
        """
        if self._first:
            self._ledger.undo(self._uid)


class Bind:
    """A bind that has a pod to itself until it ends (it is a context manager)."""

    def __init__(self, uid: str, known: Waiting | None, ledger: Ledger, assume: Assume) -> None:
        self._uid = uid
        self.known = known
        """The pod as it was last seen waiting; None where its ask cannot be relied on."""
        self._ledger = ledger
        self._assume = assume

    def assume(self, ask: PodAsk, node: str, stages: Stages) -> Assumption | Misfit:
        """Place the pod on the node and charge it, or say why not."""
        first = not self._ledger.holds(self._uid, node)
        grant = self._assume(ask, node, stages)
        return grant if isinstance(grant, Misfit) else Assumption(grant, self._uid, node, self._ledger, first)

    def end(self) -> None:
        """The bind is over, whatever came of it."""
        self._ledger.end_bind(self._uid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
