"""Which worker clusters are nominated for a workload, best first, and why the others are not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """What one cluster says of a workload.

    `refusal` is empty when its cards hold every pod; `free_mib` is what of the workload's classes would stay free.
    `flavors` are the cluster's own ResourceFlavors of these classes.
    """

    cluster: str
    refusal: str = ""
    free_mib: int = 0
    flavors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Nomination:
    """The clusters to name, best first, the flavors that they may assign, and a sentence for each that cannot."""

    clusters: tuple[str, ...]
    flavors: tuple[str, ...]
    refused: tuple[str, ...]


def rank(offers: Iterable[Offer]) -> tuple[Offer, ...]:
    """Those that fit, the tightest first: room in one piece is kept for what needs it. Ties go by name."""
    return tuple(sorted((o for o in offers if not o.refusal), key=lambda offer: (offer.free_mib, offer.cluster)))


def nominate(offers: Sequence[Offer], nominated: Sequence[str], *, more: bool) -> Nomination:
    """Keep who is nominated and still offers at all; with none of them, or where `more` is due, add the next best.

    One at a time: each nominated cluster reserves quota and cards for the workload until one of them admits it. A
    nominated cluster keeps its turn while it is only full, for the workload itself may be what fills it.
    """
    known = {offer.cluster for offer in offers}
    kept = [name for name in nominated if name in known]
    fresh = [offer.cluster for offer in rank(offers) if offer.cluster not in kept]
    if fresh and (more or not kept):
        kept.append(fresh[0])
    return Nomination(
        clusters=tuple(kept),
        flavors=tuple(sorted({flavor for offer in offers if offer.cluster in kept for flavor in offer.flavors})),
        refused=tuple(f"{offer.cluster}: {offer.refusal}" for offer in offers if offer.refusal),
    )
