"""A bad day of tenants: one asks for its guarantee, another has borrowed all cards and wants them back, leaders die."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sandbox import ApiError, ControlPlane, await_until
from tests.cluster.chaos.world import CARDS, NODES, World
from tests.cluster.gpu_pods import PODS, a_gpu_pod, overcommitted_in

TENANTS = "/apis/kerf.dev/v1alpha1/tenantquotas"
OURS = "/api/v1/namespaces/lender/pods"
HALF = len(NODES) * CARDS // 2
WHOLE = {"mem": 81_559, "cores": 100}


def guarantee_comes_back(world: World) -> dict[str, float | int | str]:
    """Twice a quarter of the cards is asked for, and the leader dies as the first borrowed pod leaves."""
    cp = world.cp
    with two_tenants(cp), a_borrower(cp, 2 * HALF) as borrower:
        await_until(lambda: len(bound(cp, PODS)) == 2 * HALF, "every card to be lent")
        start = time.monotonic()
        for batch in range(2):
            for number in range(HALF // 2):
                pod = a_gpu_pod(f"asks-{batch}-{number}", **WHOLE)
                cp.api.post(OURS, {**pod, "metadata": {"name": pod["metadata"]["name"]}})
            before = len(borrower.gone())
            await_until(lambda: len(borrower.gone()) > before, "a borrowed pod to leave")  # noqa: B023
            leader = world.shop.await_leader()
            cp.kill(leader)
            await_until(lambda: world.shop.leader() not in ("", leader), "another leader")  # noqa: B023
            world.revive()
            wanted = (batch + 1) * HALF // 2
            await_until(lambda: len(bound(cp, OURS)) == wanted, "the guarantee")  # noqa: B023
        seconds = time.monotonic() - start
        await_until(lambda: len(bound(cp, PODS)) == HALF, "the borrower to hold its own guarantee")
        wrong = overcommitted_in(cp, "default", "lender")
        if wrong or len(borrower.gone()) > 2 * HALF:
            raise AssertionError(f"{wrong}; {len(borrower.gone())} pods left for {HALF} cards")
        return {"cards_back": HALF, "pods_left": len(borrower.gone()), "back_s": round(seconds, 1)}


class Borrower:
    """Keeps so many pods in `default`, as a ReplicaSet would: for each one that is gone it makes another."""

    def __init__(self, cp: ControlPlane, count: int) -> None:
        self._cp, self._count = cp, count
        self._made: list[str] = []
        self._there: set[str] = set()

    def gone(self) -> list[str]:
        """The pods that left."""
        return [name for name in tuple(self._made) if name not in self._there]

    def look(self) -> None:
        """One round."""
        try:
            self._there = {pod["metadata"]["name"] for pod in self._cp.api.get(PODS)["items"]}
            for _ in range(self._count - len(self._there)):
                name = f"b-{len(self._made)}"
                self._cp.api.post(PODS, a_gpu_pod(name, **WHOLE))
                self._there.add(name)
                self._made.append(name)
        except ApiError:
            return  # the webhook's or the API server's moment


@contextmanager
def a_borrower(cp: ControlPlane, count: int) -> Iterator[Borrower]:
    borrower, over = Borrower(cp, count), threading.Event()

    def run() -> None:
        while not over.wait(0.3):
            borrower.look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield borrower
    finally:
        over.set()
        thread.join()


@contextmanager
def two_tenants(cp: ControlPlane) -> Iterator[None]:
    """`lender` and `borrower`, each with the guarantee of half of the cards; the borrower's namespace is `default`."""
    cp.api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lender"}})
    for name, namespace in (("lender", "lender"), ("borrower", "default")):
        spec = {"namespaces": [namespace], "classes": [{"model": "H100", "guaranteed": f"{HALF} cards"}]}
        tenant = {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": {"name": name}, "spec": spec}
        cp.api.post(TENANTS, tenant)
    try:
        yield
    finally:
        for name in ("lender", "borrower"):
            cp.api.delete(f"{TENANTS}/{name}")
        for pod in cp.api.get(OURS)["items"]:
            cp.api.remove(f"{OURS}/{pod['metadata']['name']}", 0)
        await_until(lambda: not cp.api.get(OURS)["items"], "the lender's pods to be gone")


def bound(cp: ControlPlane, path: str) -> list[str]:
    """The pods that have a node."""
    try:
        return [pod["metadata"]["name"] for pod in cp.api.get(path)["items"] if pod["spec"].get("nodeName")]
    except ApiError:
        return []
