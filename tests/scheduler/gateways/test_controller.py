"""The leader keeps gateways' objects in a cluster in memory: writes, prunes, labels pods, and says who may leave."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from kerf.config.prices import read_prices
from kerf.gateways.render import Rendered, Seen
from kerf.kube import paths
from kerf.kube.client import Json
from kerf.kube.errors import Busy
from kerf.obs.metrics import Metrics
from kerf.testing.builders import a_card, a_node
from kerf.testing.fake_kube import FakeKube
from kerf.values.gateways import Gateway, GatewaySettings
from kerf.values.health import Health, State
from kerf.values.policy import SchedulingPolicy
from kerf.values.usage import TokenPrice
from kerf.vendors.registry import VENDORS
from sandbox.processes import await_until
from scheduler.gateways import controller
from scheduler.gateways.controller import READ_S, GatewayController, Prices
from scheduler.gateways.drains import Drains
from scheduler.metrics import GatewayMetrics
from scheduler.state.store import Store
from tests.kerf.gateways.serving import a_replica, settings_for

LOST = Health(State.CORDONED, "XID 79", 1, moves=True)
PRICE = TokenPrice("qwen3-8b", Decimal(1), Decimal(1), Decimal(2))
ROUTES = "/apis/llm.knoway.dev/v1alpha1/namespaces/serving/modelroutes"
BACKENDS = "/apis/llm.knoway.dev/v1alpha1/namespaces/serving/llmbackends"
CONFIG = "/api/v1/namespaces/serving/configmaps/kerf-litellm"


class World:
    """A cluster, the scheduler's state of it, and the controller of one term."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.now = 0.0
        self.prices = read_prices(None)
        self.tokens: tuple[TokenPrice, ...] = (PRICE,)
        self.policy = SchedulingPolicy()
        self.store = Store(self.policy, VENDORS)
        self.drains = Drains(lambda: self.store.desk.policy.gateways, lambda: self.now)
        self.controller = self.lead()
        self.cards()

    def lead(self) -> GatewayController:
        prices = Prices(lambda: self.prices, lambda: self.tokens)
        metrics = GatewayMetrics.build(Metrics())
        return GatewayController(self.store, self.kube, prices, self.drains, metrics, lambda: self.now)

    def cards(self, *healths: Health) -> None:
        cards = tuple(
            a_card(i, id=f"GPU-node-1-{i}", health=health) for i, health in enumerate(healths or [Health()] * 4)
        )
        self.store.feed.apply_node("MODIFIED", self.kube.put(a_node("node-1", cards)))

    def write_for(self, *gateways: Gateway, **changes: Any) -> None:
        settings = settings_for(*gateways, **changes) if gateways else GatewaySettings()
        self.store.feed.set_policy(replace(self.policy, gateways=settings))

    def round(self, seconds: float = 0.0) -> None:
        self.now += seconds
        before = self.controller._watched
        self.controller.run_once()
        watched = self.controller._watched
        if watched is not None and watched is not before:  # it may have listed the pods since the round looked
            await_until(lambda: watched.synced, "the pods to be listed")
            self.controller.run_once()
        if watched is not None:
            await_until(lambda: all(map(self._is_newest, watched.pods)), "the watch to show what the round wrote")

    def _is_newest(self, pod: Json) -> bool:
        stored = self.kube.get(paths.pod(pod["metadata"]["namespace"], pod["metadata"]["name"]))
        return bool(stored["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"])

    def run(self, *pods: dict[str, Any]) -> None:
        """Pods come or change; the round after that has seen them."""
        version = self.controller._watched.version if self.controller._watched else 0
        for pod in pods:
            self.kube.put(pod)
        self._await_news(version)

    def end(self, name: str) -> None:
        version = self.controller._watched.version if self.controller._watched else 0
        self.kube.remove(f"/api/v1/namespaces/team-a/pods/{name}")
        self._await_news(version)

    def _await_news(self, version: int) -> None:
        watched = self.controller._watched
        if watched is not None:
            await_until(lambda: watched.version > version, "the watch to show it")

    def weights(self) -> list[int]:
        routes = self.kube.objects(ROUTES)
        return [t["destination"]["weight"] for route in routes for t in route["spec"]["route"]["targets"]]

    def labels(self, name: str) -> list[str]:
        pod = self.kube.get(f"/api/v1/namespaces/team-a/pods/{name}")
        return sorted(key for key, value in pod["metadata"]["labels"].items() if value and key.startswith("pool."))


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.controller._leave()


def test_without_a_gateway_nothing_is_read_or_written(world: World):
    world.kube.fail = lambda method, path: pytest.fail(f"{method} {path}")

    world.round()

    assert world.drains.may_leave("anyone")


def test_objects_follow_the_replicas(world: World):
    world.write_for(Gateway.KNOWAY, Gateway.LITELLM)
    world.run(a_replica("one"), a_replica("two", 1, memory_mib=20_390))
    world.round()
    assert world.weights() == [500, 250]
    assert "0.000002" in world.kube.get(CONFIG)["data"]["config.yaml"]

    world.end("one")
    world.round()

    assert (world.weights(), len(world.kube.objects(BACKENDS))) == ([250], 1)


def test_a_round_without_news_asks_for_nothing(world: World):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one"))
    world.round()
    before = list(world.kube.writes)

    world.round(1)

    assert world.kube.writes == before


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """What was rendered since the test began."""
    found: list[Seen] = []

    def render(seen: Seen, *rest: Any, **more: Any) -> Rendered:
        found.append(seen)
        return rendered(seen, *rest, **more)

    rendered = controller.render
    monkeypatch.setattr(controller, "render", render)
    return found


def test_routes_are_made_again_only_when_something_that_they_are_made_of_has_changed(world: World, renders: list[Seen]):
    world.write_for(Gateway.KNOWAY, Gateway.LITELLM)
    world.run(a_replica("one"), a_replica("two", 1))
    world.round()
    for seconds in (0.5, 11, READ_S + 1):
        world.prices, world.tokens = replace(world.prices), (PRICE,)  # read again, and the same
        world.round(seconds)
    assert len(renders) == 1

    changes: list[Callable[[], object]] = [
        lambda: world.run(a_replica("two", 1, ready=False)),
        lambda: world.cards(LOST, *[Health()] * 3),
        lambda: setattr(world, "tokens", (replace(PRICE, output=Decimal(9)),)),
        lambda: setattr(world, "prices", replace(world.prices, currency="EUR")),
        lambda: world.write_for(Gateway.KNOWAY),
    ]
    for number, change in enumerate(changes, 2):
        change()
        world.round(0.5)
        world.round(0.5)
        assert len(renders) == number


def test_what_could_not_be_written_again_is_tried_in_the_next_round(world: World, renders: list[Seen]):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one"))
    world.round()
    (route,) = world.kube.objects(ROUTES)
    world.kube.remove(f"{ROUTES}/{route['metadata']['name']}")

    def busy(method: str, _: str) -> None:
        if method == "PATCH":
            raise Busy(429, "TooManyRequests", "later")

    world.kube.fail = busy
    with pytest.raises(Busy):
        world.round(READ_S + 1)
    world.kube.fail = lambda method, path: None

    world.round(0.5)

    assert (world.weights(), len(renders)) == ([500], 1)


def test_a_label_that_somebody_takes_from_a_pod_comes_back_at_once(world: World):
    world.write_for(Gateway.POOL)
    world.run(a_replica("one"))
    world.round()
    labels = world.labels("one")
    assert labels

    world.run(a_replica("one"))
    world.round(0.5)

    assert world.labels("one") == labels


def test_a_pod_that_starts_again_leaves_and_comes_back_under_its_old_name(world: World):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("chat-0"), a_replica("chat-1", 1))
    world.round()
    before = {item["metadata"]["name"]: item["spec"]["upstream"]["baseUrl"] for item in world.kube.objects(BACKENDS)}

    world.run(a_replica("chat-0", ready=False))
    world.round()
    assert len(world.kube.objects(BACKENDS)) == 1
    world.end("chat-0")  # a StatefulSet makes it again, at another address
    world.run(a_replica("chat-0", uid="uid-of-the-next", address="10.0.0.9"))
    world.round()

    after = {item["metadata"]["name"]: item["spec"]["upstream"]["baseUrl"] for item in world.kube.objects(BACKENDS)}
    assert (after.keys(), sorted(after.values())) == (
        before.keys(),
        ["http://10.0.0.2:8000/v1", "http://10.0.0.9:8000/v1"],
    )


def test_what_is_left_out_is_said_once_until_it_changes(world: World, caplog: pytest.LogCaptureFixture):
    line = "qwen3-8b: none of its 1 replicas is ready on a healthy card"
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one", ready=False))
    world.round()
    world.round(READ_S + 1)
    assert [record.getMessage() for record in caplog.records].count(line) == 1

    world.run(a_replica("one"))
    world.round()
    world.run(a_replica("one", ready=False))
    world.round()

    assert [record.getMessage() for record in caplog.records].count(line) == 2


def test_a_model_that_nobody_serves_has_no_route_and_no_backend(world: World):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one"))
    world.round()

    world.end("one")
    world.round()

    assert world.kube.objects("/apis/llm.knoway.dev") == []
    deleted = [path.split("/")[-2] for method, path in world.kube.writes if method == "DELETE"]
    assert deleted == ["modelroutes", "llmbackends"]


def test_what_people_change_or_delete_is_written_again_and_what_is_theirs_stays(world: World):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one"), a_replica("two", 1))
    world.round()
    (route,) = world.kube.objects(ROUTES)
    mine = world.kube.objects(ROUTES)
    route["spec"]["route"]["targets"][0]["destination"]["weight"] = 1
    world.kube.put(route)
    meta = {"name": "theirs", "namespace": "serving"}
    world.kube.put({"apiVersion": "llm.knoway.dev/v1alpha1", "kind": "ModelRoute", "metadata": meta, "spec": {}})

    world.round(READ_S + 1)

    found = {item["metadata"]["name"]: item["spec"] for item in world.kube.objects(ROUTES)}
    assert found == {"theirs": {}, mine[0]["metadata"]["name"]: mine[0]["spec"]}


def test_a_limit_that_the_policy_takes_back_is_written_without_it(world: World):
    on = {"tokens_per_minute": 100, "requests_per_minute": 60, "gateway": "models"}
    world.write_for(Gateway.KNOWAY, Gateway.ENVOY, **on)
    world.run(a_replica("one"))
    world.round()
    before = list(world.kube.writes)

    world.write_for(Gateway.KNOWAY, Gateway.ENVOY, gateway="models")
    world.round()

    written = [path.split("/")[-2] for _, path in world.kube.writes[len(before) :]]
    assert written == ["modelroutes", "aigatewayroutes", "backendtrafficpolicies"]


def test_a_new_leader_removes_what_was_written_for_pods_that_are_gone(world: World):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one"))
    world.round()
    world.controller._leave()
    world.kube.remove("/api/v1/namespaces/team-a/pods/one")
    world.controller = world.lead()

    world.round()

    assert world.kube.objects("/apis/llm.knoway.dev") == []


def test_a_gateway_that_is_taken_from_the_policy_loses_its_objects_and_another_keeps_its_own(world: World):
    world.write_for(Gateway.KNOWAY, Gateway.LITELLM)
    world.run(a_replica("one"))
    world.round()
    before = world.kube.get(CONFIG)["metadata"]["resourceVersion"]

    world.write_for(Gateway.LITELLM)
    world.round()
    assert world.kube.objects("/apis/llm.knoway.dev") == []
    assert world.kube.get(CONFIG)["metadata"]["resourceVersion"] == before

    world.write_for()
    world.round()
    assert world.kube.objects("/api/v1/namespaces/serving") == []


def test_objects_move_to_another_namespace(world: World):
    world.write_for(Gateway.LITELLM)
    world.run(a_replica("one"))
    world.round()

    world.write_for(Gateway.LITELLM, namespace="edge")
    world.round()

    found = [item["metadata"]["namespace"] for item in world.kube.objects("/api/v1") if item["kind"] == "ConfigMap"]
    assert found == ["edge"]


def test_a_drained_pod_loses_its_pools_label_and_gets_it_back(world: World):
    world.write_for(Gateway.POOL)
    world.run(a_replica("one"), a_replica("two", 1))
    world.round()
    both = world.labels("one")
    assert both
    assert world.labels("two") == both

    world.cards(LOST, Health())
    world.round()
    assert (world.labels("one"), world.labels("two")) == ([], both)

    world.cards(Health(), Health())
    world.round()
    assert world.labels("one") == both


def test_a_pool_that_is_taken_from_the_policy_leaves_no_label_and_no_watch(world: World):
    world.write_for(Gateway.POOL)
    world.run(a_replica("one"), a_replica("two", 1))
    world.round()
    assert world.labels("one")

    world.write_for()
    world.round()
    world.round()

    assert (world.labels("one"), world.labels("two")) == ([], [])
    assert world.kube.objects("/apis/inference.networking.k8s.io") == []
    assert world.controller._watched is None


def test_a_pod_may_leave_once_gateways_have_left_it_for_a_moment(world: World):
    world.write_for(Gateway.KNOWAY, settle_s=2.0, drain_s=60.0)
    world.run(a_replica("one"), a_replica("two", 1))
    world.round()
    assert not world.drains.may_leave("uid-team-a-one")

    world.cards(LOST, Health())
    world.round()
    assert world.weights() == [500]
    assert not world.drains.may_leave("uid-team-a-one")

    world.now += 2.0
    assert world.drains.may_leave("uid-team-a-one")
    assert not world.drains.may_leave("uid-team-a-two")
    assert world.drains.may_leave("no-model")


def test_a_gateway_that_cannot_be_written_holds_an_eviction_up_for_a_while_only(world: World):
    world.write_for(Gateway.KNOWAY, drain_s=15.0)
    world.run(a_replica("one"), a_replica("two", 1))
    world.round()
    world.cards(LOST, Health())

    def refuse(method: str, path: str) -> None:
        if method == "PATCH":
            raise Busy(503, "ServiceUnavailable", "later")

    world.kube.fail = refuse
    with pytest.raises(Busy):
        world.round()
    assert not world.drains.may_leave("uid-team-a-one")

    world.now += 15.0
    assert world.drains.may_leave("uid-team-a-one")


def test_before_a_new_leader_has_looked_no_pod_leaves_at_once(world: World):
    world.write_for(Gateway.KNOWAY, drain_s=15.0)

    assert not world.drains.may_leave("uid-team-a-one")
    world.now += 15.0
    assert world.drains.may_leave("uid-team-a-one")


def test_one_object_that_is_refused_does_not_keep_the_others_back(world: World):
    world.write_for(Gateway.KNOWAY)
    world.run(a_replica("one"), a_replica("two", 1))

    def refuse(method: str, path: str) -> None:
        if method == "PATCH" and "one" in path:
            raise Busy(503, "ServiceUnavailable", "later")

    world.kube.fail = refuse
    with pytest.raises(Busy):
        world.round()

    assert len(world.kube.objects(BACKENDS)) == 1
    world.kube.fail = lambda method, path: None
    world.round()
    assert len(world.kube.objects(BACKENDS)) == 2
