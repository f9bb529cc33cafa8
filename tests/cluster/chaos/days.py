"""Bad days. Each is a function of the world that causes failures and returns what it measured, not the verdict."""

import random
import signal
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kerf.kube.client import connect
from kerf.kube.errors import Gone
from sandbox import ApiError, await_until
from sandbox.fakenodes import render_fake_node
from tests.cluster.chaos.guarantee import guarantee_comes_back
from tests.cluster.chaos.world import CARDS, CONFIGURATION, NODES, WEBHOOK, World
from tests.cluster.gpu_pods import PODS, a_fake_node, a_gpu_pod

MALFORMED = (
    {"nvidia.com/gpu": "1", "nvidia.com/gpumem": "3Gi"},
    {"nvidia.com/gpu": "99999999999"},
    {"nvidia.com/gpu": "1", "nvidia.com/gpucores": "4000"},
    {"nvidia.com/gpumem-percentage": "101", "nvidia.com/gpu": "1"},
)
PAST_THE_WEBHOOK = 300
Facts = Mapping[str, float | int | str]
Day = Callable[[World], Facts]


def api_server_away(world: World) -> Facts:
    """The API server is down for a while and comes back, then hangs for as long and continues."""
    with world.load("away"):
        time.sleep(3)
        world.cp.kill("kube-apiserver")
        time.sleep(world.size.outage_s)
        world.cp.restart("kube-apiserver")
        time.sleep(2)
        world.cp.kill("kube-apiserver", signal.SIGSTOP)
        time.sleep(world.size.outage_s / 2)
        world.cp.kill("kube-apiserver", signal.SIGCONT)
        time.sleep(3)
    world.revive()  # a kube-scheduler that lost its own lease ends; a kubelet would start it again
    return {"outage_s": world.size.outage_s, "settled_s": round(world.settle(), 1)}


def watch_gone(world: World) -> Facts:
    """Both extenders sleep while the API server forgets what they last saw: their watches end with 410 Gone."""
    kube = connect(str(world.cp.kubeconfig))
    for i in range(5):
        world.create(f"before-{i}")
    world.settle()
    _, version = kube.list(PODS)
    for name in world.shop.ports:
        world.cp.kill(name, signal.SIGSTOP)
    for i in range(150):
        world.create(f"gone-{i}")
        if i % 2:
            world.delete(f"gone-{i}")
    world.cp.kill("kube-apiserver")
    world.cp.restart("kube-apiserver")
    try:
        for _ in kube.watch(PODS, version, timeout_s=1):
            pass
        ended = "went on"
    except Gone:
        ended = "410 Gone"
    kube.close()
    for name in world.shop.ports:
        world.cp.kill(name, signal.SIGCONT)
    world.delete("before-0")
    return {"watch": ended, "settled_s": round(world.settle(), 1)}


def etcd_slow(world: World) -> Facts:
    """Etcd stops for up to two seconds at a time, again and again: answers come late or not at all."""
    chance = random.Random(3)
    until = time.monotonic() + world.size.outage_s
    bursts = 0
    with world.load("slow"):
        while time.monotonic() < until:
            world.cp.kill("etcd", signal.SIGSTOP)
            time.sleep(chance.uniform(0.2, 2.0))
            world.cp.kill("etcd", signal.SIGCONT)
            time.sleep(chance.uniform(0.05, 0.6))
            bursts += 1
    world.revive()
    return {"stops": bursts, "settled_s": round(world.settle(), 1)}


def clock_skew(world: World) -> Facts:
    """A replica with other clocks, and a Lease with wrong timestamps; then the leader is killed."""
    supervisor = world.cp.supervisor
    skewed = "b"
    supervisor.stop(skewed)
    command = supervisor._commands[skewed]
    jump = ("unshare", "--time", "--fork", "--kill-child", "--monotonic", "1000000", "--boottime", "1000000")
    try:
        supervisor.start(replace(command, argv=(*jump, *command.argv)))
        await_until(lambda: world.shop.leads("a"), "the other replica to lead")
        with world.load("skew"):
            time.sleep(3)
            lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kerf-scheduler"
            world.cp.api.patch(lease, {"spec": {"renewTime": "2001-01-01T00:00:00.000000Z"}})
            time.sleep(2)
            still = world.shop.leads("a")
            world.cp.api.patch(lease, {"spec": {"renewTime": "2099-01-01T00:00:00.000000Z"}})
            start = time.monotonic()
            world.cp.kill("a")
            await_until(lambda: world.shop.leads(skewed), "the skewed replica to lead")
            took = time.monotonic() - start
            world.cp.restart("a")
        return {"kept": str(still), "failover_s": round(took, 2), "settled_s": round(world.settle(), 1)}
    finally:
        supervisor.stop(skewed)
        supervisor.start(command)


def deleted_while_binding(world: World) -> Facts:
    """Pods are deleted at the moment of their bind; a few pods stay and must still be bound."""
    names = [f"brief-{i}" for i in range(world.size.deleted)]

    def come_and_go(name: str) -> None:
        world.create(name, mem=60_000)
        time.sleep(random.Random(name).uniform(0.0, 1.0))
        world.delete(name)

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(come_and_go, names))
    for i in range(len(NODES) * CARDS):  # every card must be free again
        world.create(f"stays-{i}", mem=81_559, cores=100)
    return {"deleted": len(names), "settled_s": round(world.settle(), 1)}


def node_returns(world: World) -> Facts:
    """A node vanishes with its pods and returns under the same name with other cards."""
    node = NODES[0]
    with world.load("node"):
        time.sleep(4)
        world.cp.api.delete(f"/api/v1/nodes/{node}")
        for pod in world.cp.api.get(f"{PODS}?fieldSelector=spec.nodeName%3D{node}")["items"]:
            world.delete(pod["metadata"]["name"])  # the pod garbage collector does this after a while
        time.sleep(2)
        fresh = render_fake_node(a_fake_node(node, CARDS))
        notes = fresh["metadata"]["annotations"]
        notes["kerf.dev/inventory"] = notes["kerf.dev/inventory"].replace(f"GPU-{node}", f"GPU-new-{node}")
        world.cp.api.post("/api/v1/nodes", fresh)
        time.sleep(2)
    settled = world.settle()
    fill = len(NODES) * CARDS
    for pod in world.cp.api.get(PODS)["items"]:
        world.delete(pod["metadata"]["name"])
    for i in range(fill):
        world.create(f"whole-{i}", mem=81_559, cores=100)
    world.settle()
    return {"settled_s": round(settled, 1), "cards_filled": fill}


def certificate_rotated(world: World) -> Facts:
    """The webhook's certificate changes five times under load; no pod is refused."""
    refused = 0

    def push() -> None:
        nonlocal refused
        number = 0
        while not over.is_set():
            refused += not world.create(f"rotate-{number}")
            number += 1
            time.sleep(0.05)

    over = threading.Event()
    thread = threading.Thread(target=push)
    thread.start()
    host, port = world.url.removeprefix("https://").split(":")
    seen = {ssl.get_server_certificate((host, int(port)))}
    for _ in range(5):
        before, pods = len(seen), len(world.stored)
        world.cp.authority.issue(WEBHOOK, hosts=("127.0.0.1",)).write(world.cp.layout.pki, WEBHOOK)

        def changed(before: int = before, pods: int = pods) -> bool:
            seen.add(ssl.get_server_certificate((host, int(port))))
            return len(seen) > before and len(world.stored) > pods + 10

        await_until(changed, "the new certificate to be served, and ten pods meanwhile")
    over.set()
    thread.join()
    if refused:
        raise AssertionError(f"{refused} pods were refused while certificates changed")
    return {"certificates": len(seen), "pods": len(world.stored), "settled_s": round(world.settle(), 1)}


def webhook_down(world: World) -> Facts:
    """Without the webhook a pod that asks for cards is not created, and a pod that asks for none is created at once."""
    world.cp.kill(WEBHOOK)
    plain = a_gpu_pod("plain")
    plain["spec"]["schedulerName"] = "default-scheduler"
    plain["spec"]["containers"] = [{"name": "main", "image": "app"}]
    slowest = 0.0
    for _ in range(20):
        start = time.monotonic()
        world.cp.api.post(f"{PODS}?dryRun=All", plain)
        slowest = max(slowest, time.monotonic() - start)
    early = world.create("early")
    world.cp.restart(WEBHOOK)
    if early:
        raise AssertionError("a pod that names a card was stored unseen while the webhook was down")
    await_until(lambda: world.create("late"), "a pod with a card to pass")
    return {"plain_pods_s": round(slowest, 3), "settled_s": round(world.settle(), 1)}


def malformed(world: World) -> Facts:
    """A tenant creates malformed pods, then some that bypass the webhook; other pods are still scheduled."""
    with world.load("good", every_s=0.2):
        refused = world.size.malformed - _push_malformed(world, "bad", world.size.malformed)
        # Without the webhook the scheduler gets them; it refuses each one, each time.
        configuration = world.cp.api.get(f"{CONFIGURATION}/{WEBHOOK}")
        world.cp.api.delete(f"{CONFIGURATION}/{WEBHOOK}")
        try:
            stored = _push_malformed(world, "worse", min(world.size.malformed, PAST_THE_WEBHOOK))
            time.sleep(5)
        finally:
            meta = {"name": configuration["metadata"]["name"]}
            world.cp.api.post(CONFIGURATION, {**configuration, "metadata": meta})
    settled = world.settle()
    bad = [pod for pod in world.cp.api.get(PODS)["items"] if pod["metadata"]["name"].startswith(("bad-", "worse-"))]
    if bound := [pod["metadata"]["name"] for pod in bad if pod["spec"].get("nodeName")]:
        raise AssertionError(f"malformed pods were bound: {bound[:3]}")
    return {"refused": refused, "past_the_webhook": stored, "settled_s": round(settled, 1)}


def _push_malformed(world: World, prefix: str, count: int) -> int:
    """How many of them were stored."""

    def push(number: int) -> bool:
        pod = a_gpu_pod(f"{prefix}-{number}")
        pod["spec"]["containers"][0]["resources"] = {"limits": dict(MALFORMED[number % len(MALFORMED)])}
        pod["metadata"]["annotations"] = {"kerf.dev/gang-size": "x" * (number % 5000)}
        try:
            world.cp.api.post(PODS, pod)
        except ApiError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(push, range(count)))


def killed_at_random(world: World) -> Facts:
    """Every process is killed at random and restarted a moment later, while pods come and go."""
    chance = random.Random(11)
    kills = dict.fromkeys(world.processes(), 0)
    until = time.monotonic() + world.size.killing_s
    with world.load("kill"):
        while time.monotonic() < until:
            victims = chance.sample(world.processes(), chance.choice((1, 1, 2)))
            for victim in victims:
                world.cp.kill(victim)
                kills[victim] += 1
            time.sleep(chance.uniform(0.0, 2.0))
            world.revive()
            time.sleep(chance.uniform(0.0, 2.0))
    return {"kills": sum(kills.values()), "settled_s": round(world.settle(), 1)}


def express_lane(world: World) -> Facts:
    """Bursts of pods while both lanes bind, each with a blow in the middle of a batch.

    The leader is killed, then stopped for longer than its Lease lasts, then the API server is restarted, then the
    leader's kube-scheduler is killed.
    """
    bound: dict[str, int] = {}
    unlike = 0
    with world.express_lane():
        for blow in ("none", "leader killed", "leader stopped", "API server restarted", "kube-scheduler killed"):
            prefix = blow.replace(" ", "-").lower()
            before = world.by_express()
            names = world.burst(prefix)
            await_until(lambda: world.by_express() > before or not world.waiting(), "the lane to bind pods")  # noqa: B023
            bound[blow] = world.by_express() - before
            _strike(world, blow)
            world.revive()
            world.settle()
            unlike += _refusals_of_bound(world)
            for name in names:
                world.delete(name)
    if not any(bound.values()):
        raise AssertionError("the express lane bound nothing")
    return {"by_express_before_each_blow": str(list(bound.values())), "bound_but_not_scheduled": unlike}


def _strike(world: World, blow: str) -> None:
    leader = world.shop.leader() or world.shop.await_leader()
    match blow:
        case "leader killed":
            world.cp.kill(leader)
            await_until(lambda: world.shop.leader() not in ("", leader), "another leader")
        case "leader stopped":
            world.cp.kill(leader, signal.SIGSTOP)
            await_until(lambda: world.shop.leader() not in ("", leader), "another leader")
            world.cp.kill(leader, signal.SIGCONT)
        case "API server restarted":
            world.cp.kill("kube-apiserver")
            world.cp.restart("kube-apiserver")
        case "kube-scheduler killed":
            world.cp.kill(f"kube-scheduler-{leader}")


def _refusals_of_bound(world: World) -> int:
    """Bound pods whose condition says that they are not scheduled."""
    pods = [pod for pod in world.cp.api.get(PODS)["items"] if pod["spec"].get("nodeName")]
    said = [each for pod in pods for each in pod["status"].get("conditions", ())]
    return sum(each["type"] == "PodScheduled" and each["status"] != "True" for each in said)


DAYS: Mapping[str, Day] = {
    "api-server-away": api_server_away,
    "watch-gone": watch_gone,
    "etcd-slow": etcd_slow,
    "clock-skew": clock_skew,
    "deleted-while-binding": deleted_while_binding,
    "node-returns": node_returns,
    "certificate-rotated": certificate_rotated,
    "webhook-down": webhook_down,
    "malformed-pods": malformed,
    "killed-at-random": killed_at_random,
    "express-lane": express_lane,
    "guarantee-asked-for": guarantee_comes_back,
}
