"""What the ledger remembers of each pod, and the states a pod goes through.

::

    absent ──assume──▶ ASSUMED ──watch shows it bound──▶ CONFIRMED ──deleted, finished──▶ absent
                          │  ▲                                ▲
                          └──┴── undo (bind refused) ▶ absent │
    absent ──────────── watch shows it bound ─────────────────┘

An assumed pod stays charged until the API server's word is known: a lost answer is asked again, never guessed.
The first grant seen on a bound pod is the one that counts; a later change of the annotation is ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kerf.model.grant import CardUse, Holding


class State(StrEnum):
    """How sure the ledger is of a grant."""

    ASSUMED = "assumed"
    CONFIRMED = "confirmed"
    RESERVED = "reserved"  # held for a pod that is still pending: a gang's, a planned or a preempting pod's


@dataclass(frozen=True, slots=True)
class Tenant:
    """A pod that holds capacity on a node: slices of cards, CPU (thousandths) and memory (MiB)."""

    key: str
    uid: str
    node: str
    state: State
    uses: Mapping[str, CardUse]
    cpu_milli: int = 0
    memory_mib: int = 0
    holding: Holding | None = None
    priority: int = 0
    gang: str | None = None
    since: float = 0.0
    """Monotonic seconds; set where the state can expire."""
    until: float = 0.0
    """Monotonic seconds at which a reservation ends."""
