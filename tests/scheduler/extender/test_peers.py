"""A follower passes requests on to the leader, answers by itself where it can, and never sends one round in circles."""

import asyncio

from kerf.kube.lease import Claim
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_node, a_pod
from kerf.testing.fake_kube import FakeKube
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from scheduler.extender.app import Extender
from scheduler.extender.bind import Binder
from scheduler.extender.peers import Peers, plain_address
from scheduler.extender.verbs import Verbs
from scheduler.metrics import SchedulerMetrics
from scheduler.state.store import Store, load
from tests.kerf.http.serving import Client, serving

BIND = {"PodNamespace": "default", "PodName": "pod-1", "PodUID": "uid-default-pod-1", "Node": "a"}
FILTER = {"Pod": a_pod(), "NodeNames": ["a", "b"]}


class View:
    """Whether one replica leads, and which one it takes for the leader."""

    def __init__(self, own: int = 0) -> None:
        self.own = own
        self.address = ""

    def term(self) -> int:
        return self.own

    def holds(self, term: int, for_s: float = 0.0) -> bool:
        return bool(self.own)

    def leader(self) -> Claim | None:
        return Claim("leader", self.address, 1, "1") if self.address else None


class Replica:
    def __init__(self, kube: FakeKube, nodes: list[str], own: int = 0) -> None:
        self.view = View(own)
        self.registry = Metrics()
        metrics = SchedulerMetrics.build(self.registry)
        store = Store(SchedulingPolicy(), VENDORS)
        load(store, [a_node(name) for name in nodes], [a_pod()])
        self.peers = Peers(self.view, "here:1", metrics, None)
        binder = Binder(store, kube, metrics, self.view)
        extender = Extender(Verbs(store.desk, metrics), binder, metrics, lambda: True, self.registry.render, self.peers)
        self.server = extender.server()
        self.client: Client

    def counted(self, line: str) -> bool:
        return line in self.registry.render().decode()


def serve(check) -> None:
    """A leader that knows nodes a and b, and a follower that knows a alone."""

    async def run() -> None:
        kube = FakeKube(a_node("a"), a_pod())
        leader, follower = Replica(kube, ["a", "b"], own=1), Replica(kube, ["a"])
        async with serving(leader.server) as leader.client, serving(follower.server) as follower.client:
            follower.view.address = f"127.0.0.1:{leader.client.port}"
            leader.view.address = "here:1"
            await check(leader, follower, kube)
            follower.peers.close()

    asyncio.run(run())


def test_what_reaches_a_follower_is_answered_by_the_leader():
    async def check(leader: Replica, follower: Replica, kube: FakeKube) -> None:
        answer = await (await follower.client.post("/filter", json=FILTER)).json()
        assert answer["NodeNames"] == ["a", "b"]
        assert await (await follower.client.post("/bind", json=BIND)).json() == {"Error": ""}
        assert kube.writes == [("POST", "/api/v1/namespaces/default/pods/pod-1/binding")]
        assert follower.counted('kerf_scheduler_forwarded_total{outcome="answered",verb="bind"} 1.0')
        assert leader.counted('kerf_scheduler_binds_total{outcome="bound"} 1.0')

    serve(check)


def test_where_the_leader_does_not_answer_a_follower_filters_by_itself_and_refuses_to_bind():
    async def check(leader: Replica, follower: Replica, kube: FakeKube) -> None:
        leader.server.close()
        answer = await (await follower.client.post("/filter", json=FILTER)).json()
        assert answer["NodeNames"] == ["a"]
        assert "did not answer" in (await (await follower.client.post("/bind", json=BIND)).json())["Error"]
        assert kube.writes == []

    serve(check)


def test_without_a_leader_bind_says_so():
    async def check(leader: Replica, follower: Replica, kube: FakeKube) -> None:
        follower.view.address = ""
        assert "no replica" in (await (await follower.client.post("/bind", json=BIND)).json())["Error"]

    serve(check)


def test_a_request_is_passed_on_once_even_between_two_that_take_each_other_for_the_leader():
    async def check(leader: Replica, follower: Replica, kube: FakeKube) -> None:
        leader.view.own = 0
        leader.view.address = f"127.0.0.1:{follower.client.port}"
        assert "does not lead" in (await (await follower.client.post("/bind", json=BIND)).json())["Error"]
        answer = await (await follower.client.post("/filter", json=FILTER)).json()
        assert answer["NodeNames"] == ["a", "b"]

    serve(check)


def test_brackets_stand_around_ipv6_alone():
    written = ["[10.0.0.1]:9090", "10.0.0.1:9090", "[fd00::1]:9090", "kerf-0.kerf:9090", ""]

    assert [plain_address(address) for address in written] == [
        "10.0.0.1:9090",
        "10.0.0.1:9090",
        "[fd00::1]:9090",
        "kerf-0.kerf:9090",
        "",
    ]
