"""Answers which kind a new pod gets: what each kind would give it now, the order of the policy, a promise."""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from kerf.pricing.prices import PriceList
from kerf.values.ask import PodAsk, Stages
from kerf.values.grant import NO_USE, Grant, Holding, card_uses
from kerf.values.node import Node
from kerf.values.supply import Supply
from kerf.wire.choosing import KindAnswer, KindQuestion, parse_question, render_kind
from kerf.wire.json import Json, at
from scheduler.choosing.memory import Memory
from scheduler.core.eligible import is_eligible
from scheduler.policies.kinds import Cost, KindOption, choose_kind, cost_of, together
from scheduler.state.answers import NoPlace, Promised
from scheduler.state.desk import Desk
from scheduler.state.pending import Waiting
from scheduler.state.store import Store

SUPPLY = "kerf.dev/supply"
REGION = "topology.kubernetes.io/region"
MOST_GANG = 64
"""Places of one gang that are looked for."""
MOST_RIVALS = 16
"""Waiting pods of which it is asked whether they need a place."""


class Chooser:
    """Reads the live state and writes nothing but its own memory. Safe from several threads."""

    def __init__(
        self,
        store: Store,
        prices: Callable[[], PriceList],
        memory: Memory | None = None,
        new_name: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._desk = store.desk
        self._ledger = store.ledger
        self._prices = prices
        self.memory = memory or Memory(time.monotonic)
        self._new_name = new_name

    def answer(self, body: bytes) -> bytes:
        """POST /kinds. Raises WireError."""
        return render_kind(self.choose(parse_question(body)))

    def choose(self, question: KindQuestion) -> KindAnswer:
        """The kind, and why. Raises WireError for a pod that cannot be read."""
        asks = [(name, *self._desk.read(pod)) for name, pod in question.kinds]
        ask = asks[0][1]
        same = self._kind_of_gang(ask)
        if any(name == same for name, _, _ in asks):
            return KindAnswer(same, f"the other pods of gang {ask.gang} have it")
        waiting = self._desk.waiting()
        promised = self.memory.promised({w.ask.chosen.promise for w in waiting if w.ask.chosen})
        names = self._eligible(question.kinds[0][1])
        found = [self._place(ask, stages, names, promised) for _, ask, stages in asks]
        rivals = Rivals(self._desk, promised, waiting, ask.priority)
        options = [self._option(one, place, rivals) for one, place in zip(asks, found, strict=True)]
        choice = choose_kind(options, self._desk.policy.accepts.order)
        name, place = asks[choice.number][0], found[choice.number]
        if _is_gang(ask) and question.keep:
            self.memory.keep_gang(str(ask.gang), name)
        promise = self._promise(place) if question.keep and isinstance(place, Promised) else ""
        return KindAnswer(name, choice.why, isinstance(place, Promised), promise)

    # ---- inside
    def _kind_of_gang(self, ask: PodAsk) -> str:
        if not ask.gang or not _is_gang(ask):
            return ""
        waits = (w.ask.chosen.kind for w in self._desk.waiting() if w.ask.gang == ask.gang and w.ask.chosen)
        return self.memory.kind_of(ask.gang) or self._ledger.kind_of(ask.gang) or next(waits, "")

    def _eligible(self, pod: Json) -> list[str]:
        spec = at(pod, "spec")
        return [node.name for node in self._desk.nodes() if node.cards and is_eligible(spec, node)]

    def _place(
        self, ask: PodAsk, stages: Stages, names: Sequence[str], promised: tuple[Promised, ...]
    ) -> Promised | NoPlace:
        """The best place now; for a gang, that of its first pod where all of them have one."""
        first: Promised | None = None
        for _ in range(min(max(ask.gang_size, 1), MOST_GANG) if ask.gang else 1):
            found = self._desk.look(ask, names, stages, promised)
            if isinstance(found, NoPlace):
                return found
            node, grant = found
            place = Promised(ask, Holding(ask.key, ask.uid, node, grant, stages))
            first, promised = first or place, (*promised, place)
        assert first is not None, "at least one place was looked for"
        return first

    def _option(self, one: tuple[str, PodAsk, Stages], place: Promised | NoPlace, rivals: "Rivals") -> KindOption:
        name, ask, _ = one
        vain = self.memory.waited_too_long(ask.owner, name)
        if isinstance(place, NoPlace):
            return KindOption(name, no_place=place.sentence, final=place.final, waited_too_long=vain)
        node = self._desk.node(place.holding.node)
        cost, model = self._cost(node, place.holding.grant, place.holding.stages) if node else (None, "a card")
        return KindOption(name, model, cost, waited_too_long=vain, wanted=rivals.who_needs(place))

    def _cost(self, node: Node, grant: Grant, stages: Stages) -> tuple[Cost | None, str]:
        labels = dict(node.labels)
        said = labels.get(SUPPLY, "")
        supply = said if said in set(Supply) else self._desk.policy.metering.supply
        uses = card_uses(grant, stages)
        cards = [card for card in node.cards if card.id in uses]
        costs = [cost_of(card, uses[card.id], self._prices(), supply, labels.get(REGION, "")) for card in cards]
        known = [cost for cost in costs if cost is not None]
        model = cards[0].model if cards else "no card"
        return (together(known) if known and len(known) == len(costs) else None), model

    def _promise(self, place: Promised) -> str:
        name = self._new_name()
        self.memory.promise(name, place)
        return name


class Rivals:
    """The waiting pods that can use nothing else, the most important ones."""

    def __init__(self, desk: Desk, promised: tuple[Promised, ...], waiting: Iterable[Waiting], priority: int) -> None:
        self._desk = desk
        self._promised = promised
        fixed = (one for one in waiting if _uses_nothing_else(one) and one.ask.priority >= priority)
        self._pods = sorted(fixed, key=lambda one: (-one.ask.priority, one.created, one.ask.key))[:MOST_RIVALS]
        self._names = [node.name for node in desk.nodes() if node.cards] if self._pods else []

    def who_needs(self, place: Promised) -> str:
        """The first of them that has no place any more once this one is taken, and could have waited for it."""
        beside = (*self._promised, place)
        for one in self._pods:
            found = self._desk.look(one.ask, self._names, one.stages, beside)
            if not isinstance(found, NoPlace):
                node, grant = found
                beside = (*beside, Promised(one.ask, Holding(one.ask.key, one.ask.uid, node, grant, one.stages)))
            elif self._could_run(one.ask, place.holding.node):
                return one.ask.key
        return ""

    def _could_run(self, ask: PodAsk, name: str) -> bool:
        state = self._desk.state(name)
        empty = replace(state, cards=tuple(replace(card, used=NO_USE) for card in state.cards))
        return self._desk.could_hold(ask, empty)


def _uses_nothing_else(one: Waiting) -> bool:
    several = one.ask.chosen is not None and len(one.ask.chosen.among) > 1
    return bool(one.ask.containers) and not (one.problem or one.gates or several)


def _is_gang(ask: PodAsk) -> bool:
    return bool(ask.gang) and ask.gang_size != 1
