"""Why a pod with ResourceClaims waits: what its claims ask for, beside what is free of the cards for claims."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kerf.values.allocator import Allocator
from kerf.values.slicing import free_places
from kerf.values.units import parse_quantity, show, show_mib, to_mib
from kerf.wire.claims import claim_names, parse_claim
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerfctl.errors import CliError

if TYPE_CHECKING:
    from kerfctl.world import World
    from scheduler.core.state import CardState
    from scheduler.state.store import Store

_SLICE, _CARD, _MIG = "slice.gpu.kerf.dev", "card.gpu.kerf.dev", "mig.gpu.kerf.dev"


def explain_claims(world: "World", store: "Store", pod: Json, key: str) -> dict[str, Any]:
    """What is known of a pod that holds nothing yet and names claims."""
    namespace = key.partition("/")[0]
    found = {_key(item): item for item in world.claims}
    cards = [state for name in store.desk.node_names() for state in store.desk.state(name).cards]
    mine = [state for state in cards if state.card.allocator is Allocator.DRA]
    sentences = []
    for name in claim_names(pod).values():
        item = found.get(f"{namespace}/{name}")
        sentences.append(f"claim {name}: {_sentence(item, mine) if item is not None else 'it does not exist'}")
    if not sentences:
        sentences = ["its claims have not been made yet"]
    fits = all(sentence.endswith(_FITS) for sentence in sentences)
    return {"pod": key, "fits": fits, "sentence": "; ".join(sentences), "claims": sentences}


_FITS = "kube-scheduler can allocate it"


def _key(item: Json) -> str:
    return f"{text_at(item, 'metadata', 'namespace') or 'default'}/{text_at(item, 'metadata', 'name')}"


def _sentence(item: Json, cards: list["CardState"]) -> str:
    try:
        claim = parse_claim(item)
    except WireError as error:
        raise CliError(f"claim {text_at(item, 'metadata', 'name')}: {error}") from error
    if claim.allocated:
        others = [name for name, _ in claim.consumers]
        return f"it is allocated on node {claim.node or '?'} and reserved for {', '.join(others) or 'no pod'}"
    requests = items_at(item, "spec", "devices", "requests")
    problems = [problem for request in requests for problem in _short(request, cards)]
    return "; ".join(problems) or _FITS


def _short(request: Json, cards: list["CardState"]) -> Iterator[str]:
    """Why a request finds no cards, by amounts; selectors and the order of a list are not weighed."""
    exactly = at(request, "exactly")
    name, kind, count = text_at(request, "name"), text_at(exactly, "deviceClassName"), exactly.get("count") or 1
    if kind not in {_SLICE, _CARD, _MIG}:
        return
    cards = [state for state in cards if (state.card.mig is not None) == (kind == _MIG)]
    if not cards:
        mode = " in MIG mode" if kind == _MIG else ""
        yield f"request {name}: no card{mode} is given to claims (allocator: dra)"
        return
    wanted = at(exactly, "capacity", "requests")
    try:
        mib, cores = to_mib(wanted.get("memory", 0)), int(parse_quantity(wanted.get("cores", 0)))
    except ValueError as error:
        yield f"request {name}: {error}"
        return
    if kind == _SLICE and cores > 99 and all(state.card.cores <= 100 for state in cards):
        yield f"request {name}: no share of a card has all of its cores; use class {_CARD}"
        return
    well = [state for state in cards if state.card.healthy]
    takes = {_SLICE: _takes, _MIG: _has_instance, _CARD: _is_empty}[kind]
    fitting = [state for state in well if takes(state, mib, cores)]
    if len({state.card.id for state in fitting}) < count:
        most = max((state.free.memory_mib for state in well), default=0)
        asked = {
            _SLICE: f"{show_mib(mib)} and {cores} % free",
            _MIG: f"a free place for an instance of {show_mib(mib)} and {cores} %",
        }.get(kind, "nothing on them")
        yield (
            f"request {name}: {show(len(fitting))} of {show(len(cards))} cards that claims are given have {asked}, and "
            f"{count} are needed; the most that is free of one is {show_mib(max(most, 0))}"
        )


def _takes(state: "CardState", mib: int, cores: int) -> bool:
    whole = state.used.cores >= 100 and state.card.cores <= 100
    room = state.free.slots > 0 and state.free.memory_mib >= mib and state.free.cores >= cores
    return room and not whole and mib <= state.card.factory_memory_mib


def _is_empty(state: "CardState", _mib: int, _cores: int) -> bool:
    return not state.used.slots


def _has_instance(state: "CardState", mib: int, cores: int) -> bool:
    sizes = (size for size in getattr(state.card.slicing, "offers", ()) if size.memory_mib >= mib)
    return any(size.cores >= cores and free_places(size, state.card, state.used.places) for size in sizes)
