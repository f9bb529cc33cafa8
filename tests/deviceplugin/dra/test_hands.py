"""How often the loop that moves cards looks at what holds them."""

from deviceplugin.dra.hands import LONGEST_LOOK_S, HandRules, Hands
from deviceplugin.gate.pods import BoundPods
from deviceplugin.state.node import LocalNode
from kerf.kube.client import Json, Query
from kerf.kube.paths import pod as pod_path
from kerf.testing.builders import a_grant, a_node, a_pod, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.allocator import Allocator
from kerf.values.policy import Pool, SchedulingPolicy
from kerf.vendors.registry import VENDORS

NODE = "node-1"
POLICY = SchedulingPolicy(pools=(Pool("all", allocator=Allocator.DRA),))


class Counting(FakeKube):
    """Counts lists of pods."""

    lists = 0

    def list(self, path: str, query: Query | None = None) -> tuple[list[Json], str]:
        self.lists += path.endswith("/pods")
        return super().list(path, query)


class World:
    """One node whose only card is to be given to claims, second by second."""

    def __init__(self, *pods: Json) -> None:
        self.kube, self.now = Counting(a_node(NODE, []), *pods), 0.0
        self.node = LocalNode(NODE)
        self.node.update_cards(cards_of(NODE, 1))
        rules = HandRules("nvidia", lambda: POLICY, True, settle_s=2.0, clock=lambda: self.now)
        self.hands = Hands(self.kube, self.node, BoundPods(self.kube, self.node, VENDORS), rules)
        self.hands.restore({f"GPU-{NODE}-0": Allocator.EXTENDER})

    def pass_seconds(self, count: int) -> int:
        """Run a round each second; how many of them listed the pods."""
        before = self.kube.lists
        for _ in range(count):
            self.now += 1
            self.hands._run_once(lambda: True)
        return self.kube.lists - before

    @property
    def hand(self) -> Allocator:
        return self.node.cards[0].allocator


def test_while_a_pod_holds_the_card_looks_become_rare_and_its_end_is_seen():
    world = World(a_pod("a", node=NODE, grant=a_grant(f"GPU-{NODE}-0")))

    assert world.pass_seconds(15) == 4  # after 1, 2, 4 and 8 seconds
    assert world.pass_seconds(160) == 10
    world.kube.remove(pod_path("default", "a"))
    world.pass_seconds(int(LONGEST_LOOK_S))
    assert world.hand is not Allocator.EXTENDER
    world.pass_seconds(4)
    assert world.hand is Allocator.DRA


def test_a_card_that_nothing_holds_is_not_kept_waiting():
    world = World()

    world.pass_seconds(4)

    assert world.hand is Allocator.DRA
