"""The loop that moves cards between Kerf's scheduler and DRA, as the policy says, while nothing holds them."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deviceplugin.core.hands import next_hands, wants_change
from deviceplugin.gate.pods import BoundPods, meta
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.obs.loop import Loop, run_every
from kerf.values.allocator import Allocator
from kerf.values.policy import SchedulingPolicy
from kerf.wire.claims import CLAIMS, parse_claim
from kerf.wire.devices import can_be_claimed
from kerf.wire.errors import WireError
from kerf.wire.objects import is_finished

_LOG = logging.getLogger("kerf.deviceplugin.hands")
FIRST_LOOK_S, LONGEST_LOOK_S = 1.0, 16.0
"""Between two looks at what holds cards that cannot change hands yet: all pods of the node, and all claims."""
LOOP = Loop("deviceplugin.hands", every_s=1.0, expected=(KubeError,))


@dataclass(frozen=True, slots=True)
class HandRules:
    """What the loop goes by. `driver` is false where this plugin serves no claims, so that every card is to go back."""

    vendor: str
    policy: Callable[[], SchedulingPolicy]
    driver: bool
    settle_s: float = 10.0
    """How long both must have seen that neither offers a card; longer than a Binding or an allocation is under way."""
    clock: Callable[[], float] = time.monotonic


class Hands:
    """Knows in whose hands each card is, and moves it. `published` says whether all offers have been written."""

    def __init__(self, kube: Kube, node: LocalNode, pods: BoundPods, rules: HandRules) -> None:
        self._kube = kube
        self._node = node
        self._pods = pods
        self._rules = rules
        self._restored = threading.Event()
        self._hands: dict[str, Allocator] = {}
        self._since: dict[str, float] = {}
        self._looked_at, self._pause = float("-inf"), FIRST_LOOK_S
        self._blocked: tuple[object, ...] = ()

    def restore(self, earlier: Mapping[str, Allocator]) -> None:
        """Go on from what an earlier run published. A card of which nothing is known is offered by neither at first."""
        target = self._target()
        unknown = Allocator.EXTENDER if target is Allocator.EXTENDER else Allocator.NONE
        self._hands = {card: earlier.get(card, unknown) for card in self._cards()}
        self._node.update_hands(self._hands)
        self._restored.set()

    def run(self, published: Callable[[], bool], stop: threading.Event) -> None:
        """Move cards until `stop`; never raises."""
        run_every(LOOP, lambda: self._run_once(published), stop)

    # ---- inside
    def _run_once(self, published: Callable[[], bool]) -> None:
        cards, target = self._cards(), self._target()
        if not self._restored.is_set() or not wants_change(cards, self._hands, target):
            return
        now, seen = self._rules.clock(), published()
        if not self._due(now, (tuple(cards), target)):
            return
        idle = {card for card in cards if self._hands.get(card) is Allocator.NONE}
        self._since = {card: self._since.get(card, now) for card in idle} if seen else {}
        settled = frozenset(card for card, since in self._since.items() if now - since >= self._rules.settle_s)
        hands = next_hands(cards, self._hands, target, self._holders(), settled)
        self._looked_at = now
        self._blocked = () if Allocator.NONE in hands.values() or hands != self._hands else (tuple(cards), target)
        for card, hand in hands.items():
            if hand is not self._hands.get(card, Allocator.EXTENDER):
                _LOG.info("card %s: %s", card, _SENTENCES[hand])
        self._hands = hands
        self._node.update_hands(hands)

    def _due(self, now: float, wanted: tuple[object, ...]) -> bool:
        """Whether to look at what holds the cards. While pods hold all that is to change, each look is later."""
        if self._blocked != wanted:
            self._pause = FIRST_LOOK_S
            return True
        if now < self._looked_at + self._pause:
            return False
        self._pause = min(self._pause * 2, LONGEST_LOOK_S)
        return True

    def _cards(self) -> list[str]:
        cards = (card for card in self._node.cards if card.vendor == self._rules.vendor)
        return [card.id for card in cards if can_be_claimed(card)]

    def _target(self) -> Allocator:
        wanted = self._rules.policy().allocator_on(self._node.as_node())
        return wanted if self._rules.driver else Allocator.EXTENDER

    def _holders(self) -> dict[str, frozenset[Allocator]]:
        """Which allocators gave out what is held of each card. Raises KubeError."""
        found: dict[str, set[Allocator]] = defaultdict(set)
        claimed = self._pods.claimed()
        for pod in self._pods.list(fresh=True).pods:
            if is_finished(pod):
                continue
            try:
                holding = self._pods.parse(pod)
            except WireError as error:
                _LOG.warning("pod %s cannot be counted: %s", meta(pod, "name"), error)
                continue
            hand = Allocator.DRA if meta(pod, "uid") in claimed else Allocator.EXTENDER
            for piece in holding.grant.slices if holding else ():
                found[piece.card].add(hand)
        for card in self._claimed_cards():
            found[card].add(Allocator.DRA)
        return {card: frozenset(hands) for card, hands in found.items()}

    def _claimed_cards(self) -> list[str]:
        cards: list[str] = []
        try:
            for page, _ in self._kube.pages(CLAIMS):
                for item in page:
                    try:
                        claim = parse_claim(item)
                    except WireError as error:
                        _LOG.warning("a claim cannot be counted: %s", error)
                        continue
                    cards += [share.card for share in claim.shares if claim.node == self._node.name]
        except NotFound:
            return []  # a cluster without DRA
        return cards


_SENTENCES = {
    Allocator.EXTENDER: "Kerf's scheduler hands it out from now on",
    Allocator.DRA: "claims (DRA) are given it from now on",
    Allocator.NONE: "it changes hands: neither Kerf's scheduler nor DRA offers it",
}
