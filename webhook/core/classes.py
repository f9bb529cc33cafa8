"""The cards that a tenant's pod may get: the classes of its quota, as far as the pod's selection takes them."""

from collections.abc import Mapping
from dataclasses import dataclass

from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.ask import PodAsk, Selection
from kerf.values.vendor import ResourceNames
from kerf.wire.classes import class_label
from kerf.wire.errors import WireError
from kerf.wire.resources import resources_field


@dataclass(frozen=True, slots=True)
class Cards:
    """One vendor's cards that a pod may get, of hardware from `smallest_mib` to `largest_mib` (0: not known yet)."""

    tenant: str
    classes: tuple[ClassAccount, ...] = ()

    @property
    def smallest_mib(self) -> int:
        """MiB of the smallest card: what a percentage counts for."""
        return min((entry.smallest_mib for entry in self.classes), default=0)

    @property
    def one_size(self) -> bool:
        """Whether all the cards have the same memory."""
        return len({size for entry in self.classes for size in (entry.smallest_mib, entry.largest_mib)}) <= 1

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once."""
        return tuple(dict.fromkeys(entry.model for entry in self.classes))


def cards_for(ask: PodAsk, book: TenantAccount, vendors: tuple[ResourceNames, ...]) -> Mapping[str, Cards]:
    """By vendor that the pod asks for, the cards it may get. Raises WireError where its selection leaves none.

    While no card of the tenant is known, nothing is refused for it: the quota controller has not looked yet.
    """
    known = [entry for entry in book.classes if entry.smallest_mib > 0]
    found = {}
    for names in vendors:
        if all(container.vendor != names.vendor for container in ask.containers):
            continue
        left = tuple(entry for entry in known if _takes(ask.selection, entry, names.vendor))
        if known and not left:
            raise _nothing_left(ask, book.name, [entry for entry in known if entry.vendor == names.vendor], names)
        found[names.vendor] = Cards(book.name, left)
    return found


def _takes(selection: Selection, entry: ClassAccount, vendor: str) -> bool:
    classes = selection.classes_of(vendor)
    if entry.vendor != vendor or (classes and entry.slug not in classes):
        return False
    return selection.takes(entry.model, entry.mode)


def _nothing_left(ask: PodAsk, tenant: str, theirs: list[ClassAccount], names: ResourceNames) -> WireError:
    """Blame the narrowest word that the tenant's cards fail."""
    selection = ask.selection
    has = ", ".join(f"{entry.model} ({entry.mode})" for entry in theirs)
    fix = f"tenant {tenant} has quota of {has} alone: select one of these, or ask for quota of others"
    if not theirs:
        first = next(container for container in ask.containers if container.vendor == names.vendor)
        where = f"{resources_field({'name': first.name}, first.stage)}[{names.count}]"
        return WireError(where, first.cards, f"tenant {tenant} has no quota of {names.vendor} cards: ask for some")
    classes = selection.classes_of(names.vendor)
    if classes and all(entry.slug not in classes for entry in theirs):
        return WireError(f"spec.nodeSelector[{class_label(classes[0])}]", "true", fix)
    if selection.modes and all(entry.mode not in selection.modes for entry in theirs):
        return WireError(f"metadata.annotations[{names.modes}]", ",".join(selection.modes), fix)
    if selection.use_types:
        return WireError(f"metadata.annotations[{names.use_types}]", ",".join(selection.use_types), fix)
    return WireError(f"metadata.annotations[{names.avoid_types}]", ",".join(selection.avoid_types), fix)
