"""The real page in this process: a store with a fleet in use, and an API server in memory that knows some tokens."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from kerf.config.prices import PriceFile
from kerf.kube.client import Json, Query
from kerf.kube.leadership import ALONE
from kerf.testing.builders import a_card, a_mig_card, a_node, a_pod, cards_of
from kerf.testing.fake_kube import FakeKube
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.health import Health, State
from kerf.values.policy import SchedulingPolicy
from kerf.vendors.registry import VENDORS
from kerf.wire.json import at
from kerf.wire.reviews import ACCESS_REVIEWS, TOKEN_REVIEWS
from scheduler.kueue.keeper import QuotaKeeper
from scheduler.page.what_if import Terms
from scheduler.page.wiring import Asked, Place, RunningPage
from scheduler.state.store import Store, load
from tests.browser.busy import add_gangs, borrower, busy_nodes, clusters

NAMESPACES = tuple(f"team-{name}" for name in ("ada", "bob", "cyd", "dee", "eve"))
Allowed = frozenset[tuple[str, str]]
"""Pairs of a resource and a namespace; "" is all namespaces, or a kind without any."""
EVERYTHING: Allowed = frozenset({("pods", ""), ("nodes", ""), ("clusters", "")})
TOKENS: Mapping[str, tuple[str, Allowed]] = {
    "admin-token": ("admin", EVERYTHING),
    "ada-token": ("ada", frozenset({("pods", "team-ada")})),
    "nobody-token": ("nobody", frozenset()),
}


class ReviewingKube(FakeKube):
    """Answers TokenReviews and SubjectAccessReviews by TOKENS."""

    def __init__(self, *objects: Json, tokens: Mapping[str, tuple[str, Allowed]] = TOKENS) -> None:
        super().__init__(*objects)
        self.tokens = dict(tokens)

    def create(self, path: str, body: object, query: Query | None = None) -> Json:
        spec = at(body, "spec")
        if path == TOKEN_REVIEWS:
            self.fail("POST", path)
            known = self.tokens.get(spec["token"])
            user = {"user": {"username": known[0], "groups": ["system:authenticated"]}} if known else {}
            return {"status": {"authenticated": known is not None, **user}}
        if path == ACCESS_REVIEWS:
            self.fail("POST", path)
            asked = at(spec, "resourceAttributes")
            allowed = next((rights for name, rights in self.tokens.values() if name == spec["user"]), frozenset())
            pair = (asked["resource"], asked.get("namespace", ""))
            return {"status": {"allowed": asked["verb"] == "list" and pair in allowed}}
        return super().create(path, body, query)


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is served."""

    store: Store
    kube: ReviewingKube
    page: RunningPage
    url: str
    cards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@contextmanager
def served(nodes: int = 1000, pods: int = 6000, *, waiting: int = 40, busy: bool = False) -> Iterator[Served]:
    """A page over a fleet; a busy one has gangs, plans, all kinds of faults and several clusters as well."""
    store = Store(SchedulingPolicy(), VENDORS)
    load(store, (*fleet(nodes), *(busy_nodes() if busy else ())), holders(nodes, pods))
    for number in range(waiting):
        size = 100_000 + 1000 * (number % 4)
        store.feed.apply_pod("ADDED", a_pod(f"waits-{number:03}", namespace=NAMESPACES[number % 5], mem=size, cores=10))
    if busy:
        add_gangs(store)
    keeper = QuotaKeeper(store)
    keeper.replace_tenants([*(tenant(name) for name in NAMESPACES[:3]), *([borrower(NAMESPACES[3])] if busy else ())])
    keeper.replace_hard([])
    keeper.refresh()
    kube = ReviewingKube(*(clusters() if busy else ()))
    asked = Asked(ALONE, lambda: None, lambda: PriceFile(None).prices, keeper.tenants_by_namespace, Terms())
    page = RunningPage(Place("127.0.0.1:0", fleet=busy), store, kube, asked)
    page.start()
    try:
        yield Served(store, kube, page, f"http://127.0.0.1:{page.port}")
    finally:
        page.stop()


def fleet(nodes: int) -> Iterator[Json]:
    """Nodes of eight cards; some cards are ill, a pool is in MIG mode."""
    for number in range(nodes):
        name = f"gpu-{number:04}"
        cards = list(cards_of(name, 8))
        if number % 40 == 7:
            ill = Health(State.CORDONED, "XID 79 (GPU has fallen off the bus)", 1_790_000_000, 79)
            cards[3] = a_card(3, id=f"GPU-{name}-3", health=ill)
        if number % 55 == 9:
            cards[5] = a_card(5, id=f"GPU-{name}-5", health=Health(State.SUSPECT, "no answer for 40 s", 1_790_000_000))
        if number % 10 == 4:
            cards = [a_mig_card(card.index, id=card.id) for card in cards]
        yield a_node(name, tuple(cards))


def holders(nodes: int, pods: int) -> Iterator[Json]:
    """Running pods with a slice each."""
    rng = random.Random(7)
    for number in range(pods):
        chosen = rng.randrange(nodes)
        name = f"gpu-{chosen + (chosen % 10 == 4):04}"
        mib = rng.choice((8000, 16000, 20000))
        yield holder(f"serve-{number:05}", NAMESPACES[number % 5], name, rng.randrange(8), mib)


def holder(name: str, namespace: str, node: str, card: int, mib: int) -> Json:
    """One running pod."""
    grant = Grant((ContainerGrant("main", (Slice(f"GPU-{node}-{card}", "nvidia", mib, 10),)),))
    return a_pod(name, namespace=namespace, node=node, grant=grant, phase="Running", mem=mib, cores=10)


def tenant(name: str) -> Json:
    """A tenant of one namespace."""
    return {
        "apiVersion": "kerf.dev/v1alpha1",
        "kind": "TenantQuota",
        "metadata": {"name": f"{name}-tenant", "generation": 1},
        "spec": {
            "namespaces": [name],
            "classes": [
                {"model": "H100", "guaranteed": {"memory": "20Ti"}},
                {"model": "H100", "mode": "mig", "guaranteed": "5 cards"},
            ],
        },
    }
