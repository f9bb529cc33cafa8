"""What the lane promises, whatever becomes of its Bindings: refused, late, or their answers lost."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kerf.kube.client import Json
from kerf.kube.errors import Busy, Forbidden, Unreachable, Unsent
from kerf.testing.fake_kube import FakeKube
from kerf.wire.extender import BindQuery
from sandbox import invariants
from scheduler.placing.expire import Expiry
from tests.scheduler.express.test_lane import World, a_machine, until, waiting

FATES = (
    *("bound", "late", "answer lost", "request lost", "refused", "bound elsewhere", "deleted"),
    *("the server is busy", "busy, and bound all the same", "not sent"),
)
PODS = "/api/v1/namespaces/default/pods/"
LATE_S = 0.05


class Unsure(FakeKube):
    """Each Binding has a fate the first time; later ones are bound."""

    def __init__(self, fates: dict[str, str], *objects: Json) -> None:
        super().__init__(*objects)
        self._fates = fates
        self.took_effect: Counter[str] = Counter()

    async def create_while(self, path: str, body: object, holds: Callable[[], bool], timeout_s: float) -> Json:
        name = path.split("/")[-2]
        fate = self._fates.pop(name, "bound")
        if fate == "refused":
            raise Forbidden(403, "Forbidden", "an admission webhook says no")
        if fate == "request lost":
            raise Unreachable("no answer")
        if fate == "not sent":
            raise Unsent("connection refused")
        if fate == "the server is busy":
            raise Busy(429, "TooManyRequests", "again in a second")
        if fate == "deleted":
            self.remove(PODS + name)
        if fate == "bound elsewhere":
            self._take_effect(path, {"target": {"name": "other"}})
        if fate == "late":
            await asyncio.sleep(LATE_S)
        assert holds()
        answer = self._take_effect(path, body)
        if fate == "answer lost":
            raise Unreachable("no answer")
        if fate == "busy, and bound all the same":
            raise Busy(504, "Timeout", "it took too long")
        return answer

    def _take_effect(self, path: str, body: Any) -> Json:
        answer = self._bind(path, body)
        self.took_effect[path.split("/")[-2]] += 1
        return answer


@settings(deadline=None, max_examples=12)
@given(st.lists(st.sampled_from(FATES), min_size=4, max_size=14), st.sampled_from((4000, 30_000)))
def test_no_pod_is_lost_none_is_bound_twice_and_no_card_is_overcommitted(fates: list[str], mem: int) -> None:
    names = [f"pod-{i:02}" for i in range(len(fates))]
    pods = [waiting(name, i, mem=mem) for i, name in enumerate(names)]
    kube = Unsure(dict(zip(names, fates, strict=True)), a_machine(cards=8), a_machine("other", cards=8), *pods)
    world = World(kube=kube)

    async def test(world: World) -> None:
        while left := [name for name in there(kube) if name not in world.bound()]:
            await world.filter(left[0])
            await until(lambda: books_agree(world))
            await asyncio.to_thread(Expiry(world.store, kube, ask_after_s=-1.0).run_once)
            await bind_as_kube_scheduler(world, left[0])
        await until(lambda: not world.lane._terrain._promises)

    world.live(test)

    assert kube.took_effect == Counter(there(kube))
    assert invariants.overcommitted(kube.objects("/api/v1/nodes/"), kube.objects(PODS)) == []


def there(kube: FakeKube) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in kube.objects(PODS))


def books_agree(world: World) -> bool:
    """Whether each bound pod is charged where it is."""
    booked = {name: world.store.ledger.get(f"uid-default-{name}") for name in world.bound()}
    return world.bound() == {name: booking.node for name, booking in booked.items() if booking}


async def bind_as_kube_scheduler(world: World, name: str) -> None:
    for node in ("node-1", "other"):
        if not await world.binder.bind(BindQuery("default", name, f"uid-default-{name}", node)):
            return
