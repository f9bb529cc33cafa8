"""The cluster that bad days happen to: two kube-schedulers, each beside its own extender, a webhook, fake nodes.

A watcher checks all the time, from the API server alone, that no card is over-committed and that no grant changes.
Every pod that the API server reported as stored must be bound when the day is over.
"""

import json
import re
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sandbox import ApiError, Command, ControlPlane, SandboxError, Webhook, await_until, free_ports
from sandbox.commands import answers
from sandbox.crds import install_crds
from sandbox.invariants import GRANT, overcommitted, ungranted
from tests.cluster.gpu_pods import PODS, a_fake_node, a_gpu_pod
from tests.cluster.replicas import Replicas

NODES = tuple(f"day-{i}" for i in range(4))
CARDS = 8
WEBHOOK = "chaos-webhook"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
REPLICAS = ("a", "b")


@dataclass(frozen=True)
class Size:
    """How bad a day is.

    Seconds without something, seconds of killing, malformed pods, pods deleted while they bind, pods created at once.
    """

    outage_s: float = 30.0
    killing_s: float = 300.0
    malformed: int = 10_000
    deleted: int = 1_000
    burst: int = 250


SHORT = Size(outage_s=6.0, killing_s=25.0, malformed=400, deleted=150, burst=60)
FULL = Size()


class Watcher:
    """Checks twice a second and records violations in `wrong`. Checks without the API server's answer do not count."""

    def __init__(self, cp: ControlPlane) -> None:
        self._api = cp.api
        self._grants: dict[str, tuple[str, str]] = {}
        self.wrong: list[str] = []
        self.looks = 0

    def look(self) -> None:
        try:
            nodes, pods = self._api.get("/api/v1/nodes")["items"], self._api.get(PODS)["items"]
        except ApiError:
            return
        self.looks += 1
        found = overcommitted(nodes, pods) + [f"{name} is bound without a grant" for name in ungranted(pods)]
        for pod in pods:
            if pod["spec"].get("nodeName"):
                now = pod["spec"]["nodeName"], pod["metadata"].get("annotations", {}).get(GRANT, "")
                before = self._grants.setdefault(pod["metadata"]["uid"], now)
                if now != before:
                    found.append(f"{pod['metadata']['name']} had {before} and has {now}")
        self.wrong += [each for each in found if each not in self.wrong]

    @contextmanager
    def watching(self) -> Iterator[None]:
        over = threading.Event()

        def run() -> None:
            while not over.wait(0.5):
                self.look()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look()


@dataclass
class World:
    """One cluster for all days, one after another."""

    cp: ControlPlane
    size: Size
    express: bool = False
    """Whether the express lane is on also on days that are not about it."""
    shop: Replicas = field(init=False)
    url: str = ""
    tls: tuple[Any, Any] = ("", "")
    stored: set[str] = field(default_factory=set)
    """Pods that the API server reported as stored and that were not deleted since."""

    def build(self) -> None:
        """Start all its processes."""
        cp = self.cp
        install_crds(cp)
        cp.add_fake_nodes([a_fake_node(name, CARDS) for name in NODES])
        policy = cp.run_dir / "policy.json"
        self.shop = Replicas(cp, ("--config", str(policy)))
        self.set_express(on=self.express)
        self._start_webhook()
        for name in REPLICAS:
            self.shop.start(name)
            self.shop.start_scheduler(name)

    def _start_webhook(self) -> None:
        (port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{port}"
        self.tls = self.cp.authority.issue(WEBHOOK, hosts=("127.0.0.1",)).write(self.cp.layout.pki, WEBHOOK)
        trust = ssl.create_default_context(cafile=self.cp.ca)
        flags = ("--bind", f"127.0.0.1:{port}", "--tls-cert", str(self.tls[0]), "--tls-key", str(self.tls[1]))
        users = tuple(word for name in REPLICAS for word in ("--trusted-user", name))
        argv = (sys.executable, "-m", "webhook", *flags, *users)
        self.cp.supervisor.start(Command(WEBHOOK, argv, ready=lambda: answers(f"{self.url}/readyz", trust)))
        self.cp.register_webhook(Webhook(WEBHOOK, f"{self.url}/mutate", self.cp.ca.read_bytes()))

    def set_express(self, *, on: bool) -> None:
        """Write the policy that both replicas read again when it changes."""
        path = self.cp.run_dir / "policy.json"
        document = {"apiVersion": "kerf.dev/v1alpha1", "kind": "SchedulingPolicy", "spec": {"express": on}}
        path.with_suffix(".new").write_text(json.dumps(document))
        path.with_suffix(".new").replace(path)

    @contextmanager
    def express_lane(self) -> Iterator[None]:
        """The lane is open at the leader while the context lasts."""
        self.set_express(on=True)
        try:
            await_until(lambda: self.in_metrics("kerf_express_open 1.0"), "the express lane to open")
            yield
        finally:
            self.set_express(on=self.express)

    def in_metrics(self, line: str) -> bool:
        """Whether one of the replicas shows this line."""
        return any(line in self.shop.metrics(name) for name in self.shop.ports)

    def by_express(self) -> int:
        """How many pods the lanes of all replicas have bound since they were last started."""
        shown = re.findall(
            r'^kerf_express_pods_total\{outcome="bound"\} (\S+)',
            "\n".join(map(self.shop.metrics, self.shop.ports)),
            re.MULTILINE,
        )
        return int(sum(map(float, shown)))

    # ---- pods
    def burst(self, prefix: str, **ask: Any) -> list[str]:
        """Create many pods at once. Every fifth one is kube-scheduler's, because it asks to be spread."""
        spread = [
            {
                "maxSkew": 100,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"burst": prefix}},
            }
        ]
        names = [f"{prefix}-{i}" for i in range(self.size.burst)]

        def one(name: str) -> bool:
            theirs = {"topologySpreadConstraints": spread} if name.endswith(("0", "5")) else {}
            return self.create(name, labels={"burst": prefix}, **theirs, **ask)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, names))
        return names

    def create(self, name: str, **ask: Any) -> bool:
        """Create one pod. Returns whether the API server reported it as stored."""
        try:
            self.cp.api.post(PODS, a_gpu_pod(name, **{"mem": 3000, "cores": 4, **ask}))
        except ApiError:
            return False
        self.stored.add(name)
        return True

    def delete(self, name: str) -> None:
        """Delete one pod. No-op if it is already gone."""
        self.stored.discard(name)
        try:
            self.cp.api.delete(f"{PODS}/{name}", 0)
        except ApiError as error:
            if error.status not in (0, 404, 500, 503, 504):
                raise

    @contextmanager
    def load(self, prefix: str, every_s: float = 0.1, most: int = 220) -> Iterator[None]:
        """A stream of pods while the context lasts. At most so many live at once; the oldest are deleted."""
        over = threading.Event()
        live: list[str] = []

        def run() -> None:
            number = 0
            while not over.wait(every_s):
                name = f"{prefix}-{number}"
                number += 1
                if self.create(name):
                    live.append(name)
                if len(live) > most:
                    self.delete(live.pop(0))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def waiting(self) -> list[str]:
        """Stored pods that are not bound, or are not there any more."""
        try:
            found = {pod["metadata"]["name"]: pod["spec"].get("nodeName") for pod in self.cp.api.get(PODS)["items"]}
        except ApiError:
            return sorted(self.stored) or ["the API server does not answer"]
        return sorted(name for name in tuple(self.stored) if not found.get(name))

    def settle(self) -> float:
        """Wait until every stored pod is bound. Returns the time taken. Raises SandboxError with the unbound pods."""
        start = time.monotonic()
        try:
            await_until(lambda: not self.waiting(), "every pod to be bound")
        except SandboxError as error:
            raise SandboxError(f"{error}: {self.waiting()[:5]} of {len(self.stored)} are lost") from None
        return time.monotonic() - start

    # ---- processes
    def processes(self) -> tuple[str, ...]:
        """All processes that a bad day may kill."""
        return ("etcd", "kube-apiserver", "kube-controller-manager", WEBHOOK, *self.kerfs())

    def kerfs(self) -> tuple[str, ...]:
        return tuple(process for name in REPLICAS for process in (f"kube-scheduler-{name}", name))

    def revive(self, seconds: float = 120.0) -> None:
        """Restart or resume every process, in the order in which it was first started."""
        supervisor = self.cp.supervisor
        deadline = time.monotonic() + seconds
        for name in supervisor.names():
            if supervisor.alive(name):
                supervisor.kill(name, signal.SIGCONT)
        while dead := [name for name in supervisor.names() if not supervisor.alive(name)]:
            if time.monotonic() > deadline:
                raise SandboxError(f"{dead} do not come back")
            for name in dead:
                try:
                    self.cp.restart(name)
                except SandboxError:
                    continue  # it needs another one that is still dead

    def clear(self) -> None:
        """Remove everything that a day left."""
        self.revive()
        await_until(self.cp.api.is_ready, "the API server")
        self.stored.clear()
        names = [pod["metadata"]["name"] for pod in self.cp.api.get(PODS)["items"]]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.delete, names))
        await_until(lambda: not self.cp.api.get(PODS)["items"], "the pods to be gone")
        self.shop.await_leader()
