"""A fault of a card: what a source saw, and what the vendor's table of codes makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What a fault means for its card, from the weakest to the strongest."""

    IGNORE = "ignore"
    """Nothing is wrong: it is counted."""
    WARN = "warn"
    """A program failed, or the code is not known: it is reported, and the card stays in use."""
    SUSPECT = "suspect"
    """The card takes no new slices before it is known to be well."""
    CORDON = "cordon"
    """The card needs a reset or a repair; what runs on it may run on."""
    EVICT = "evict"
    """What runs on the card is lost or cannot be trusted: its tenants have to move."""

    @property
    def rank(self) -> int:
        """0 for the weakest."""
        return _ORDER.index(self)

    def at_most(self, other: "Verdict") -> "Verdict":
        """The weaker of the two."""
        return min(self, other, key=lambda verdict: verdict.rank)


_ORDER = tuple(Verdict)


class Signal(StrEnum):
    """Where a fault was seen."""

    KERNEL = "kernel"  # a line of the kernel log that names a code
    KERNEL_BUS = "kernel-bus"  # the lines of the kernel log that say that the card is off the bus, without a code
    EVENT = "event"  # an event of the vendor's library
    LOST = "lost"  # the vendor's library answers that the card is gone
    ACTION = "action"  # the recovery action that the driver asks for
    SERVER = "server"  # a line in the log of an inference server, or its health page


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What one source saw of one fault."""

    at: float
    """Seconds: since 1970, or since the boot where the source knows no date."""
    card: str
    """The card's id, or its address on the bus; empty where the source names none."""
    code: int
    signal: Signal
    text: str = ""
    instance: str = ""
    """The MIG instance that the fault names; empty for the whole card."""
    pid: int = 0
    """The process that the fault names (its PID on the host), 0 where none."""


@dataclass(frozen=True, slots=True)
class Code:
    """One code of a vendor: its name, what it means for the card, and what the vendor advises."""

    name: str
    verdict: Verdict
    advice: str = ""
    one_instance: bool = False
    """A fault that names a MIG instance concerns that instance alone."""


def _says_nothing(_fault: Fault) -> Verdict | None:
    return None


def _no_more(_fault: Fault) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class FaultTable:
    """A vendor's codes as data, with the table's source and date."""

    codes: Mapping[int, Code] = field(default_factory=dict, hash=False)
    source: str = ""
    date: str = ""
    by_text: Callable[[Fault], Verdict | None] = _says_nothing
    """The verdict of a fault whose text says more than its code; None where it does not."""
    word: str = "code"
    """What the vendor calls a code."""
    remedy: Callable[[Fault], str] = _no_more
    """What repairs a card with this fault (`kerf.values.recovery.Remedy`); empty where nothing is advised."""
    more: Callable[[Fault], str] = _no_more
    """What the text of a fault says more than its code's name; empty where it says nothing."""

    def name_of(self, code: int) -> str:
        """The code's name; empty where it is not known."""
        known = self.codes.get(code)
        return known.name if known else ""

    def describe(self, fault: Fault) -> str:
        """The fault in a few words: `XID 79 (GPU has fallen off the bus)`."""
        name = self.more(fault) or self.name_of(fault.code)
        return f"{self.word} {fault.code}" + (f" ({name})" if name else "")

    def verdict(self, fault: Fault, overrides: Mapping[int, Verdict] | None = None) -> Verdict:
        """What the fault means for its card. The operator's override of a code replaces the table's verdict.

        A code that is not known warns and is never a reason to move anything.
        """
        verdict = self.tenant_verdict(fault, overrides)
        return verdict.at_most(Verdict.SUSPECT) if self.of_one_instance(fault) else verdict

    def of_one_instance(self, fault: Fault) -> bool:
        """Whether the fault names a MIG instance and concerns nothing beside it."""
        known = self.codes.get(fault.code)
        return bool(fault.instance and known and known.one_instance)

    def tenant_verdict(self, fault: Fault, overrides: Mapping[int, Verdict] | None = None) -> Verdict:
        """What the fault means for what runs on that which it names: the instance, or else the card."""
        known = self.codes.get(fault.code)
        said = (overrides or {}).get(fault.code) or self.by_text(fault)
        return said or (known.verdict if known else Verdict.WARN)
