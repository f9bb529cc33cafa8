"""Engines read by the leader: where they are, what they served, what tokens cost, how many replicas there should be."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from kerf.kube.errors import Unreachable
from kerf.metering.scale import Room
from kerf.testing.builders import H100_MIB, a_grant, a_node, a_pod
from kerf.values.policy import ScaleSettings, TokenSettings
from kerf.wire.quota import parse_tenant
from kerf.wire.usage import PATH, moment_text, parse_usage
from scheduler.metering.engines import EngineWatch, place_of
from scheduler.metering.room import room_for
from scheduler.quota.capacity import capacity
from scheduler.quota.shares import divide
from tests.kerf.metering.histories import START
from tests.scheduler.metering.test_meter import World


class Engines(World):
    """Pods that run vLLM; `pages` is what each address answers."""

    def __init__(self, **settings: Any) -> None:
        self.pages: dict[str, str] = {}
        super().__init__(tokens=TokenSettings(half_life_minutes=0), **settings)

    def new_term(self) -> None:
        super().new_term()
        self.watch = EngineWatch(self.store, self.kube, self.meter, self.get)

    def get(self, url: str) -> str:
        if url not in self.pages:
            raise OSError("refused")
        return self.pages[url]

    def serve(self, name: str, mib: int = H100_MIB, *, owner: str = "chat", **more: Any) -> None:
        """A pod of Deployment/<owner> whose engine runs from now on."""
        arguments = {"containers": [{"name": "main", "image": "vllm/vllm-openai:v1", "args": ["--model", "m"]}]}
        self.bind(name, mib=mib, labels={"pod-template-hash": "x"}, **arguments, **more)
        pod = self.pods[name]
        pod["metadata"]["ownerReferences"] = [{"controller": True, "kind": "ReplicaSet", "name": f"{owner}-x"}]
        running = {"running": {"startedAt": moment_text(self.clock.wall)}}
        pod["status"] |= {
            "podIP": f"10.0.0.{len(self.pods)}",
            "containerStatuses": [{"name": "main", "state": running}],
        }
        self.store.feed.apply_pod("DELETED", pod)
        self.store.ledger.begin_history()
        self.store.feed.apply_pod("MODIFIED", pod)
        self.kube.put({**pod, "kind": "Pod"})

    def say(self, name: str, output: int, *, waiting: int = 0, kv: float = 0.5) -> None:
        address = self.pods[name]["status"]["podIP"]
        self.pages[f"http://{address}:8000/metrics"] = (
            f'vllm:generation_tokens_total{{model_name="m"}} {output}\n'
            f'vllm:num_requests_waiting{{model_name="m"}} {waiting}\n'
            f'vllm:kv_cache_usage_perc{{model_name="m"}} {kv}\n'
        )

    def price(self) -> Decimal:
        cards = [r for r in (parse_usage(item) for item in self.kube.objects(PATH)) if r.of_cards]
        return max(cards, key=lambda record: record.hour_ms).prices[0].output

    def tokens(self) -> int:
        records = [parse_usage(item) for item in self.kube.objects(PATH)]
        return sum(row.output for record in records for row in record.tokens)


def test_two_dollars_an_hour_at_a_thousand_tokens_a_second() -> None:
    world = Engines()
    world.serve("a")
    for minute in range(1, 31):
        world.say("a", minute * 60_000)
        world.watch.run_once()
        world.pass_(60)

    assert world.price().quantize(Decimal("0.0001")) == Decimal("0.5556")
    assert world.tokens() == 1_800_000
    line = 'kerf_model_price_per_million_tokens{cluster="west",currency="USD",kind="output",model="m"} 0.55'
    assert line in world.metrics.page.text.decode()


def test_a_new_leader_counts_on_from_the_last_readings() -> None:
    world = Engines()
    world.serve("a")
    world.say("a", 1000)
    world.watch.run_once()
    world.pass_(60)
    world.say("a", 1500)
    world.restart()
    world.watch.run_once()
    world.pass_(60)

    assert world.tokens() == 1500


def test_an_engine_that_does_not_answer_is_looked_up_again() -> None:
    world = Engines()
    world.serve("a")
    world.watch.run_once()
    world.say("a", 10)
    world.watch.run_once()
    world.kube.fail = _unreachable
    world.say("a", 30)
    world.watch.run_once()
    world.pass_(60)

    assert world.tokens() == 30


def _unreachable(method: str, path: str) -> None:
    if "/pods/" in path:
        raise Unreachable("no answer")


@pytest.mark.parametrize(
    "changes",
    [{"spec": {"hostNetwork": True}}, {"status": {}}, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}],
)
def test_no_page_is_read_of_a_pod_on_the_hosts_network_or_one_that_does_not_run(changes: dict[str, Any]) -> None:
    world = Engines()
    world.serve("a")
    pod = world.pods["a"]
    engine = world.store.ledger.bookings()[0].subject.engine
    assert engine is not None
    assert place_of(pod, engine) is not None

    assert (
        place_of({**pod, **{key: {**pod[key], **more} if more else more for key, more in changes.items()}}, engine)
        is None
    )


def scaled(world: Engines) -> dict[str, str]:
    """Lines of the page by metric."""
    world.watch.run_once()
    world.meter.more = [world.watch.families]
    world.pass_(1)
    lines = world.metrics.page.text.decode().splitlines()
    return {line.partition("{")[0]: line.partition(" ")[2] or line for line in lines if line.startswith("kerf_rec")} | {
        "missing": next((line for line in lines if line.startswith("kerf_missing_replicas{")), "")
    }


def test_more_replicas_are_recommended_as_far_as_cards_have_room() -> None:
    world = Engines(scale=ScaleSettings(waiting_per_replica=2))
    world.serve("a", H100_MIB // 2)
    world.say("a", 1, waiting=3)

    assert scaled(world) == {"kerf_recommended_replicas": "2.0", "missing": ""}


def test_what_no_card_can_hold_is_not_recommended_and_said() -> None:
    world = Engines(scale=ScaleSettings(waiting_per_replica=2))
    world.serve("a", H100_MIB)
    world.say("a", 1, waiting=30)
    found = scaled(world)

    assert found["kerf_recommended_replicas"] == "1.0"
    assert "have room for 0 more of 1 x 81,559 MiB" in found["missing"]
    assert found["missing"].endswith(" 1.0")


def test_quota_bounds_the_room_and_is_named() -> None:
    world = Engines()
    world.store.feed.apply_node("MODIFIED", a_node("node-1", 4))
    world.serve("a", 20_000)
    item = {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": "team"},
        "spec": {
            "namespaces": ["team-space"],
            "classes": [{"model": "H100", "guaranteed": {"memory": "50000Mi"}, "burst": {"memory": 0}}],
        },
    }
    found = capacity(world.store.desk.nodes(), world.policy)
    world.store.feed.set_quota(divide([parse_tenant(item, "nvidia")], found), found, {})
    (booking,) = world.store.ledger.bookings()

    room = room_for(booking, world.store.desk, 64)
    assert room == Room(1, "tenant team may hold 50,000 MiB of nvidia-h100-80gb-hbm3-shared and holds 20,000")


def test_room_counts_distinct_cards_and_what_is_held() -> None:
    world = Engines()
    world.store.feed.apply_node("MODIFIED", a_node("node-1", 2))
    world.bind("x", mib=60_000)
    pod = a_pod("other", grant=a_grant("GPU-node-1-1", 10_000), node="node-1")
    world.store.feed.apply_pod("MODIFIED", pod)
    booking = next(b for b in world.store.ledger.bookings() if b.key.endswith("/x"))

    assert room_for(booking, world.store.desk, 64).more == 1
    assert room_for(replace(booking), world.store.desk, 0).more == 0
    assert world.clock.wall == START
