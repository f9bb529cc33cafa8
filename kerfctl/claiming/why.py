"""Why claims find no devices: by claim, by request, and by what is free of the cards. Pure."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from kerf.values.allocator import Allocator
from kerf.values.device_ask import ClaimAsk, Wanted
from kerf.values.slicing import free_places
from kerf.values.units import MIB, show, show_mib
from kerfctl.claiming.allocate import Ended, accepts, allocate, taken_of, tolerates
from kerfctl.claiming.devices import Books, Device, Pool

if TYPE_CHECKING:
    from scheduler.core.state import CardState, NodeState

_SLICE, _CARD, _MIG = "slice.gpu.kerf.dev", "card.gpu.kerf.dev", "mig.gpu.kerf.dev"
Pools = Sequence[tuple[Pool, Books]]


def why_not(asks: Sequence[ClaimAsk], pools: Pools, states: "Sequence[NodeState]") -> str:
    """One sentence about claims that no node can allocate together."""
    sentences = [f"claim {ask.name}: {text}" for ask in asks if (text := _of_claim(ask, pools, states))]
    return "; ".join(sentences) or "each of its claims would find devices, but no node has them for all together"


def _of_claim(ask: ClaimAsk, pools: Pools, states: "Sequence[NodeState]") -> str:
    if _fits([ask], pools):
        return ""
    cards = [card for state in states for card in state.cards if card.card.allocator is Allocator.DRA]
    texts = []
    for ways in ask.requests:
        if not _fits([ClaimAsk(ask.name, (ways,))], pools):
            texts += [_of_way(way, pools, cards) for way in ways]
    together = "each of its requests would find devices, but no node has them for all together"
    return "; ".join(texts) or (f"{together} within its constraints" if ask.constraints else together)


def _fits(asks: Sequence[ClaimAsk], pools: Pools) -> bool:
    return any(allocate(asks, pool, books) is not None for pool, books in pools)


def _of_way(wanted: Wanted, pools: Pools, cards: "list[CardState]") -> str:
    """Why a request finds no devices."""
    plain = not wanted.all and len(wanted.selectors) == 1 and wanted.kind in {_SLICE, _CARD, _MIG}
    text = next(_by_amounts(wanted, cards), "") if plain else ""
    return f"request {wanted.request}: {text or _by_steps(wanted, pools)}"


def _by_steps(wanted: Wanted, pools: Pools) -> str:
    """How many devices are left after each thing that Kubernetes' allocator looks at."""
    every = [(device, pool, books) for pool, books in pools for device in pool.devices]
    steps: tuple[tuple[str, Callable[[Device, Pool, Books], bool]], ...] = (
        ("its class and selectors accept", lambda device, *_: _accepted(wanted, device)),
        ("have as much at all", lambda device, *_: taken_of(wanted, device) is not None),
        ("have no taint that it does not tolerate", lambda device, *_: tolerates(wanted, device)),
        ("have room", lambda device, pool, books: _room(wanted, device, pool, books)),
    )
    said, left = [], every
    for words, passes in steps:
        left = [each for each in left if passes(*each)]
        said.append(f"{show(len(left))} {words}")
        if not left:
            break
    needs = "all" if wanted.all else show(wanted.count)
    return f"of {show(len(every))} devices {', '.join(said)}; it needs {needs} on one node"


def _accepted(wanted: Wanted, device: Device) -> bool:
    try:
        return accepts(wanted, device)
    except Ended:
        return False


def _room(wanted: Wanted, device: Device, pool: Pool, books: Books) -> bool:
    taken = taken_of(wanted, device)
    return taken is not None and books.room_for(device, taken, pool)


def _by_amounts(wanted: Wanted, cards: "list[CardState]") -> Iterator[str]:
    """In the words of cards, for a request that names one of Kerf's classes and nothing else."""
    amounts = dict(wanted.amounts)
    mib, cores = _up(amounts.get("memory", Fraction()) / MIB), _up(amounts.get("cores", Fraction()))
    cards = [state for state in cards if (state.card.mig is not None) == (wanted.kind == _MIG)]
    if not cards:
        mode = " in MIG mode" if wanted.kind == _MIG else ""
        yield f"no card{mode} is given to claims (allocator: dra)"
        return
    if wanted.kind == _SLICE and cores > 99 and all(state.card.cores <= 100 for state in cards):
        yield f"no share of a card has all of its cores; use class {_CARD}"
        return
    well = [state for state in cards if state.card.healthy]
    takes = {_SLICE: _takes, _MIG: _has_instance, _CARD: _is_empty}[wanted.kind]
    fitting = [state for state in well if takes(state, mib, cores)]
    if len({state.card.id for state in fitting}) < wanted.count:
        most = max((state.free.memory_mib for state in well), default=0)
        asked = {
            _SLICE: f"{show_mib(mib)} and {cores} % free",
            _MIG: f"a free place for an instance of {show_mib(mib)} and {cores} %",
        }.get(wanted.kind, "nothing on them")
        yield (
            f"{show(len(fitting))} of {show(len(cards))} cards that claims are given have {asked}, and "
            f"{wanted.count} are needed; the most that is free of one is {show_mib(max(most, 0))}"
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


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
