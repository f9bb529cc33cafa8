"""A pod that waits long for the kind that it was given gets one Event, and its owner's next pod another kind."""

from typing import Any

from kerf.testing.builders import a_node, a_pod
from kerf.values.accepts import AcceptsMode, AcceptsSettings, Chosen
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.accepts import CHOSEN, render_chosen
from scheduler.choosing.memory import Memory
from scheduler.choosing.watch import REASON, KindWatch
from scheduler.state.store import Store, load

HOPPER, ASCEND = "nvidia.com/gpu:H100", "huawei.com/Ascend910B3"


class Sent:
    """Events as they were emitted."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def emit(self, about: dict[str, Any], reason: str, message: str) -> None:
        self.events.append((about["name"], reason, message))


class World:
    def __init__(self, *pods: dict[str, Any], mode: AcceptsMode = AcceptsMode.CHOOSE) -> None:
        self.now = 0.0
        policy = SchedulingPolicy(accepts=AcceptsSettings(mode, explain_after_s=60.0, remember_s=100.0))
        self.store = Store(policy, VENDORS)
        load(self.store, [a_node("h", 1)], pods)
        self.memory, self.sent = Memory(lambda: self.now), Sent()
        self.watch = KindWatch(self.store, self.sent, self.memory, lambda: self.now)  # type: ignore[arg-type]

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.watch.run_once()


def a_waiting_pod(owner: str = "rs-1", among: tuple[str, ...] = (HOPPER, ASCEND)) -> dict[str, Any]:
    note = render_chosen(Chosen(HOPPER, "cheap", "", 1, among))
    pod = a_pod("chat-1", mem=90_000, annotations={CHOSEN: note})
    if owner:
        pod["metadata"]["ownerReferences"] = [{"controller": True, "uid": owner, "kind": "ReplicaSet", "name": "chat"}]
    return pod


def test_after_the_policys_time_one_event_says_why_and_what_to_do() -> None:
    world = World(a_waiting_pod())

    world.pass_time(60)
    assert (world.sent.events, world.memory.waited_too_long("rs-1", HOPPER)) == ([], False)
    world.pass_time(30)

    ((name, reason, message),) = world.sent.events
    assert (name, reason) == ("chat-1", REASON)
    assert message.startswith(f"it waits for {HOPPER} for 60 s: ")
    assert "90,000 MiB" in message
    assert message.endswith(f"the next pod of its owner may be given {ASCEND}: delete this one to have that now")
    assert world.memory.waited_too_long("rs-1", HOPPER)


def test_what_an_owner_waited_for_is_forgotten_after_the_policys_time() -> None:
    world = World(a_waiting_pod())
    world.pass_time(70)
    world.store.feed.apply_pod("DELETED", a_waiting_pod())

    world.pass_time(98)
    assert world.memory.waited_too_long("rs-1", HOPPER)
    world.pass_time(4)
    assert not world.memory.waited_too_long("rs-1", HOPPER)


def test_a_pod_without_an_owner_has_to_be_made_again() -> None:
    world = World(a_waiting_pod(owner=""))

    world.pass_time(70)

    assert world.sent.events[0][2].endswith(f"it also accepts {ASCEND}: make it again to have that")


def test_a_pod_with_one_kind_and_a_policy_that_is_off_are_left_alone() -> None:
    one, off = World(a_waiting_pod(among=(HOPPER,))), World(a_waiting_pod(), mode=AcceptsMode.OFF)

    one.pass_time(70)
    off.pass_time(70)

    assert (one.sent.events, off.sent.events) == ([], [])
