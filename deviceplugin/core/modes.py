"""In which mode each card is: what its pool asks for, where the node can and no pod is in the way.

A card changes its mode only while no pod holds a slice of it. Cards with one MPS daemon for the node change together,
so that a container of several cards never holds cards of two modes.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from deviceplugin.core.limits import kept
from kerf.values.device import Backend, Card, Mode
from kerf.values.health import Health, State
from kerf.values.mps import MOST_CLIENTS, SERVER_MIB, Daemon, MpsReport
from kerf.values.policy import DriverLimits, MpsDaemon, PoolMode

GRACE_S = 60
"""How long a card stays in mode mps while nothing supervises its daemon: a supervisor that is updated comes back."""


@dataclass(frozen=True, slots=True)
class CardMode:
    """How a card is shared, by which daemon if through MPS, and what is in the way."""

    daemon: str = ""
    """The MPS daemon that serves it; empty where none does."""
    backend: Backend = Backend.PRELOAD
    joint: bool = True
    note: str = ""
    problem: str = ""
    """Why it takes no new slices now; empty where it does."""
    since: int = 0
    """Since when there is that problem, in seconds since 1970."""

    def applied(self, card: Card) -> Card:
        """The card, as the hardware has it, in this mode."""
        if card.mode is Mode.MIG:
            return card
        sick = self.problem and card.healthy
        health = Health(State.SUSPECT, self.problem, self.since, falls=card.health.falls) if sick else card.health
        card = replace(card, mode=Mode.SHARED, backend=self.backend, mode_note=self.note, health=health)
        if not self.daemon:
            return card
        reserved = min(SERVER_MIB, card.memory_mib)
        return replace(
            card,
            mode=Mode.MPS,
            joint=self.joint,
            slots=min(card.slots, MOST_CLIENTS),
            memory_mib=card.memory_mib - reserved,
            reserved_mib=card.reserved_mib + reserved,
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """What the pool asks for, and what keeps slices where no daemon does."""

    mode: PoolMode = PoolMode.PRELOAD
    daemon: MpsDaemon = MpsDaemon.CARD
    backend: Backend = Backend.PRELOAD
    limits: DriverLimits = DriverLimits.NEVER

    @property
    def mps(self) -> bool:
        """Whether MPS is wanted."""
        return self.mode in {PoolMode.MPS, PoolMode.AUTO}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the node now. `held` are the cards of which a pod holds a slice; None is "not asked"."""

    report: MpsReport
    modes: Mapping[str, CardMode]
    held: frozenset[str] | None
    now: int
    failed: Callable[[str], str] = lambda _: ""
    """Why a card's driver keeps no limits of memory here, beside what the card says itself."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Each card's mode, the daemons that are to run, and whether a card would change if it were known to be empty."""

    modes: dict[str, CardMode]
    daemons: tuple[Daemon, ...]
    asks: bool


def decide(cards: Iterable[Card], wish: Wish, seen: Seen, known: Iterable[Daemon] = ()) -> Decision:
    """The next modes. `known` are daemons of earlier decisions, which cards in mode mps may still use."""
    listed = sorted((card for card in cards if card.mode is not Mode.MIG), key=lambda card: card.id)
    reasons = {card.id: _reason(card, seen) for card in listed}
    able = tuple(card.id for card in listed if wish.mps and not reasons[card.id])
    daemons = {each.name: each for each in (*known, *_daemons(able, wish))}
    target = {card: each.name for each in _daemons(able, wish) for card in each.cards}
    modes, asks = {}, False
    for card in listed:
        was = seen.modes.get(card.id, CardMode(backend=wish.backend))
        goal = target.get(card.id, "")
        new = _next(card.id, was, goal, wish, seen, daemons)
        asks = asks or (seen.held is None and new.daemon != goal and _may_start(goal, seen))
        described = _described(replace(new, joint=_joint(new, daemons)), goal, reasons[card.id], wish, seen)
        modes[card.id] = _dated(_with_limits(described, card, wish, seen), was, seen.now)
    used = {mode.daemon for mode in modes.values()} | set(target.values())
    return Decision(modes, tuple(sorted(each for name, each in daemons.items() if name in used and name)), asks)


def _reason(card: Card, seen: Seen) -> str:
    """Why a card cannot be shared through MPS; empty where it can."""
    mode = seen.modes.get(card.id)
    if card.no_mps or not card.memory_mib:
        return card.no_mps or "it has no memory of its own"
    serves = mode is not None and mode.daemon and (not mode.problem or seen.now - mode.since < GRACE_S)
    return "" if serves else seen.report.problem


def _daemons(able: tuple[str, ...], wish: Wish) -> tuple[Daemon, ...]:
    if wish.daemon is MpsDaemon.CARD:
        return tuple(Daemon(card, (card,)) for card in able)
    digest = hashlib.sha256("\n".join(able).encode()).hexdigest()[:8]
    return (Daemon(f"node-{digest}", able),) if able else ()


def _joint(mode: CardMode, daemons: Mapping[str, Daemon]) -> bool:
    return not mode.daemon or mode.daemon not in daemons or daemons[mode.daemon].cards != (mode.daemon,)


def _may_start(goal: str, seen: Seen) -> bool:
    """Whether a card could go to this goal at once if it were empty."""
    state = seen.report.of(goal)
    return not goal or bool(state and state.running)


def _next(card: str, was: CardMode, goal: str, wish: Wish, seen: Seen, daemons: Mapping[str, Daemon]) -> CardMode:
    together = {other for name in (was.daemon, goal) if name in daemons for other in daemons[name].cards} | {card}
    stays = was.daemon == goal or seen.held is None or bool(seen.held & together) or not _may_start(goal, seen)
    if stays:
        return replace(was, backend=Backend.MPS if was.daemon else wish.backend)
    return CardMode(goal, Backend.MPS if goal else wish.backend)


def _described(mode: CardMode, goal: str, reason: str, wish: Wish, seen: Seen) -> CardMode:
    """The mode with its note and its problem."""
    state = seen.report.of(mode.daemon) if mode.daemon else None
    problem = ""
    if mode.daemon and not (state and state.running):
        problem = f"its MPS daemon does not run: {(state.problem if state else seen.report.problem) or 'it starts'}"
    elif wish.mode is PoolMode.MPS and not mode.daemon and reason:
        problem = f"its pool asks for mode mps: {reason}"
    return replace(mode, note=_note(mode, goal, reason, wish, seen), problem=problem)


def _with_limits(mode: CardMode, card: Card, wish: Wish, seen: Seen) -> CardMode:
    """The same, with what the card's driver keeps by itself."""
    found = kept(card, mode.backend, wish.limits, seen.failed(card.id))
    note = "; ".join(each for each in (mode.note, found.note) if each)
    return replace(mode, backend=found.backend, note=note, problem=mode.problem or found.problem)


def _dated(mode: CardMode, was: CardMode, now: int) -> CardMode:
    since = was.since if was.problem else now
    return replace(mode, since=since if mode.problem else 0)


def _note(mode: CardMode, goal: str, reason: str, wish: Wish, seen: Seen) -> str:
    if wish.mps and reason and not mode.daemon:
        return f"its pool asks for mode {wish.mode.value}, and mps cannot be had: {reason}"
    if mode.daemon == goal:
        return ""
    state = seen.report.of(goal) if goal else None
    asks = f"its pool asks for mode {wish.mode.value}"
    if goal and not (state and state.running):
        return f"{asks}: {state.problem if state and state.problem else 'its MPS daemon starts'}"
    return f"{asks}: it changes once no pod holds a slice of the cards that change with it"
