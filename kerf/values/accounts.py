"""A tenant's books: what it was promised, gets, may hold, holds and waits for, class by class."""

from dataclasses import dataclass

from kerf.values.quota import NOTHING, Amount, Bound


@dataclass(frozen=True, slots=True)
class ClassAccount:
    """One class of cards. `limit` is guaranteed plus burst; `pending` is asked by pods that wait.

    `reserved` is what Kueue's books say is used, and `drift` how much that is more than pods hold or, once admitted,
    still wait for; both None where Kueue keeps no books.
    """

    slug: str
    vendor: str
    model: str
    mode: str
    smallest_mib: int
    largest_mib: int
    promised: Bound
    guaranteed: Bound
    limit: Bound
    used: Amount = NOTHING
    pending: Amount = NOTHING
    reserved: Amount | None = None
    drift: Amount | None = None
    reserved_mib: int = 0
    """What the driver keeps of a card for itself, beside its size."""

    @property
    def borrowed(self) -> Amount:
        """What the tenant holds beyond its guarantee."""
        guaranteed = (self.guaranteed.memory_mib, self.guaranteed.cores, self.guaranteed.cards)
        held = (self.used.memory_mib, self.used.cores, self.used.cards)
        return Amount(*(0 if g is None else max(h - g, 0) for g, h in zip(guaranteed, held, strict=True)))


@dataclass(frozen=True, slots=True)
class TenantAccount:
    """One tenant. `problems` are sentences about its file; `waiting` says why pods or workloads wait, a few of them."""

    name: str
    namespaces: tuple[str, ...] = ()
    enforced: bool = False
    """Whether webhook and scheduler refuse what exceeds `limit`; with Kueue, Kueue lets it wait."""
    classes: tuple[ClassAccount, ...] = ()
    problems: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    priority: str = "normal"
    """The tenant's priority band."""

    @property
    def holds_nothing(self) -> bool:
        """Whether nothing of its file can be kept, so that it may hold no card. `problems` say why."""
        return bool(self.problems) and not self.classes
