"""An API server with a fixed fleet over real HTTP, for the extender's benchmark: list, watch, binding.

The extender under test is the real process with its real client. This server replaces only the cluster of thousands of
nodes, at the HTTP boundary. A Binding is answered by a watch event of the pod, as from a real API server. Otherwise
watches are silent but for what the benchmark asks for: `POST /bench/rate?per_s=N` lets pods come, start, change and go
N times a second, and `POST /bench/pods` emits watch events as given, one a line.
"""

import argparse
import asyncio
import itertools
import json
import sys
from typing import Any

import orjson
from aiohttp import web

from benchmarks import mixed

CARDS = 8
MODEL = "NVIDIA H100 80GB HBM3"
MEMORY = 81_559
TENANTS = 20
QUOTAS = "/apis/kerf.dev/v1alpha1/tenantquotas"
CLAIMS = "/apis/resource.k8s.io/v1/resourceclaims"
SIZES = ((8000, 10), (16_000, 20), (24_000, 30), (40_000, 50), (4000, 5))


def node_json(number: int, *, dra: bool = False) -> dict[str, Any]:
    """A node with eight cards, in the hands of Kerf's scheduler or of Kubernetes' allocator."""
    name = f"node-{number:05}"
    cards = [
        {
            "id": f"GPU-{number:05}-{i}",
            "index": i,
            "vendor": "nvidia",
            "model": MODEL,
            "memory_mib": MEMORY,
            "numa": i // 4,
            **({"allocator": "dra"} if dra else {}),
        }
        for i in range(CARDS)
    ]
    notes = {"kerf.dev/inventory": json.dumps({"v": 1, "cards": cards})}
    return {
        "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name}, "annotations": notes},
        "spec": {},
        "status": {"allocatable": {"cpu": "192", "memory": "2048Gi", "nvidia.com/gpu": "80"}},
    }


def pod_json(number: int, nodes: int) -> dict[str, Any]:
    """A running pod with a slice. Pods go to the cards in turn, so that cards differ."""
    node, card = number % nodes, (number // nodes) % CARDS
    memory, cores = SIZES[(number * 7 + number // nodes) % len(SIZES)]
    name = f"pod-{number:06}"
    slice_ = {"card": f"GPU-{node:05}-{card}", "vendor": "nvidia", "memory_mib": memory, "cores": cores}
    grant = {"v": 1, "containers": [{"name": "main", "slices": [slice_]}]}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "annotations": {"kerf.dev/grant": json.dumps(grant)},
        },
        "spec": {"nodeName": f"node-{node:05}", "containers": [container_json(memory, cores)]},
        "status": {"phase": "Running"},
    }


def claim_json(number: int, nodes: int) -> dict[str, Any]:
    """An allocated claim of one of the tenants for a slice, of a pod that is not listed."""
    node, card = number % nodes, (number // nodes) % CARDS
    memory, cores = SIZES[number % len(SIZES)]
    name = f"claim-{number:08}"
    consumed = {"memory": f"{memory}Mi", "cores": str(cores), "slots": "1"}
    result = {"request": "gpu", "driver": "gpu.kerf.dev", "pool": f"node-{node:05}", "shareID": f"share-{name}"}
    result |= {"device": f"gpu-{node:05}-{card}", "consumedCapacity": consumed}
    meta = {"name": name, "namespace": f"team-{number % TENANTS:02}", "uid": f"uid-{name}", "resourceVersion": "1"}
    user = {"resource": "pods", "name": name, "uid": f"uid-of-{name}"}
    return {
        "metadata": meta,
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "slice.gpu.kerf.dev"}}]}},
        "status": {"allocation": {"devices": {"results": [result]}}, "reservedFor": [user]},
    }


def tenant_json(number: int, nodes: int) -> dict[str, Any]:
    """A tenant that is guaranteed its part of the fleet and may borrow the rest."""
    name = f"team-{number:02}"
    classes = [{"guaranteed": f"{nodes * CARDS // TENANTS} cards of H100"}]
    spec = {"namespaces": [name], "claims": "allow", "classes": classes}
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    return {"apiVersion": "kerf.dev/v1alpha1", "kind": "TenantQuota", "metadata": meta, "spec": spec}


def container_json(memory: int, cores: int) -> dict[str, Any]:
    """A container with one slice."""
    limits = {"nvidia.com/gpu": "1", "nvidia.com/gpumem": str(memory), "nvidia.com/gpucores": str(cores)}
    return {
        "name": "main",
        "image": "app",
        "resources": {"limits": limits, "requests": {"cpu": "2", "memory": "8Gi", **limits}},
    }


def pending(number: int) -> dict[str, Any]:
    """A pending pod of one of a few shapes."""
    memory, cores = SIZES[number % len(SIZES)]
    name = f"new-{number:06}"
    meta = {"name": name, "namespace": "default", "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"metadata": meta, "spec": {"containers": [container_json(memory, cores)]}}


def pod_events(number: int, nodes: int) -> list[bytes]:
    """The life of one more pod as watch events: it waits, is bound, runs, is deleted."""
    bound = pod_json(10_000_000 + number, nodes)
    waiting = {**bound, "metadata": {**bound["metadata"], "annotations": {}}, "status": {"phase": "Pending"}}
    waiting["spec"] = {"containers": bound["spec"]["containers"]}
    starting = {**bound, "status": {"phase": "Pending"}}
    life = (("ADDED", waiting), ("MODIFIED", starting), ("MODIFIED", bound), ("DELETED", bound))
    return [orjson.dumps({"type": kind, "object": pod}) + b"\n" for kind, pod in life]


def a_mixed_node(number: int, kinds: int) -> dict[str, Any]:
    """A node with eight cards of one of so many vendors."""
    name = f"node-{number:05}"
    node: dict[str, Any] = mixed.nvidia_node(name) if kinds == 1 else mixed.mixed_node(number, name)
    node["metadata"] |= {"uid": name, "resourceVersion": "1"}
    return node


class Watches:
    """Everyone who watches pods, and the pods that come and go."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._watchers: set[web.StreamResponse] = set()
        self._coming: asyncio.Task[None] | None = None

    async def follow(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if request.path == "/api/v1/pods":
            self._watchers.add(response)
        try:
            await asyncio.sleep(3600)
        finally:
            self._watchers.discard(response)
        return response

    async def emit(self, lines: bytes) -> None:
        for watcher in list(self._watchers):
            await watcher.write(lines)

    async def set_rate(self, request: web.Request) -> web.Response:
        if self._coming is not None:
            self._coming.cancel()
            self._coming = None
        if per_s := float(request.query["per_s"]):
            self._coming = asyncio.create_task(self._come(per_s))
        return web.Response()

    async def emit_given(self, request: web.Request) -> web.Response:
        await self.emit(await request.read())
        return web.Response()

    async def _come(self, per_s: float) -> None:
        lives = [pod_events(number, self._nodes) for number in range(50)]
        for turn in itertools.count():
            # Four pods at a time, each at another point of its life.
            for lag in range(4):
                await self.emit(lives[(turn - lag) % len(lives)][lag])
                await asyncio.sleep(1 / per_s)


class Bindings:
    """The pods that the benchmark schedules, by path: they wait until they are bound."""

    def __init__(self, watches: Watches, kinds: int) -> None:
        self._watches = watches
        self._kinds = kinds
        self._bound: dict[str, dict[str, Any]] = {}

    def pod(self, path: str) -> dict[str, Any] | None:
        """What the API server has of a pod, or None if the path is of something else."""
        if path in self._bound:
            return self._bound[path]
        _, is_new, number = path.rpartition("/pods/new-")
        if is_new:
            return pending(int(number))
        _, is_mixed, number = path.rpartition("/pods/pod-")
        return mixed.pod(int(number), self._kinds) if self._kinds and is_mixed else None

    async def add(self, path: str, binding: dict[str, Any]) -> None:
        """Keep what the Binding says of the pod, and tell who watches pods."""
        if pod := self.pod(path):
            meta = {**pod["metadata"], "resourceVersion": str(2 + len(self._bound))}
            for field in ("annotations", "labels"):
                meta[field] = {**meta.get(field, {}), **binding["metadata"].get(field, {})}
            spec = {**pod["spec"], "nodeName": binding["target"]["name"]}
            self._bound[path] = {"metadata": meta, "spec": spec, "status": {"phase": "Pending"}}
            await self._watches.emit(orjson.dumps({"type": "MODIFIED", "object": self._bound[path]}) + b"\n")


def listed_of(nodes: int, pods: int, kinds: int, claims: int) -> dict[str, list[bytes]]:
    """What is listed, by path."""
    fleet = [a_mixed_node(i, kinds) if kinds else node_json(i, dra=claims > 0) for i in range(nodes)]
    found = {
        "/api/v1/nodes": list(map(orjson.dumps, fleet)),
        "/api/v1/resourcequotas": [],
        "/api/v1/pods": [orjson.dumps(pod_json(i, nodes)) for i in range(pods)],
    }
    if claims:
        found[CLAIMS] = [orjson.dumps(claim_json(i, nodes)) for i in range(claims)]
        found[QUOTAS] = [orjson.dumps(tenant_json(i, nodes)) for i in range(TENANTS)]
    return found


def build(nodes: int, pods: int, kinds: int = 0, claims: int = 0) -> web.Application:
    """The HTTP routes; with `kinds`, the fleet of `benchmarks.mixed` with cards of so many vendors, nothing running.

    With `claims`, the cards are in the hands of Kubernetes' allocator, and tenants hold so many.
    """
    lists = listed_of(nodes, pods, kinds, claims)
    watches = Watches(nodes)
    bindings = Bindings(watches, kinds)

    async def listed(request: web.Request) -> web.StreamResponse:
        if pod := bindings.pod(request.path):
            return web.json_response(pod)
        if kinds and "/nodes/node-" in request.path:  # a bind looks for the node lock
            return web.json_response(a_mixed_node(int(request.path.rpartition("-")[2]), kinds))
        items = lists.get(request.path)
        if items is None:
            status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "none"}
            return web.json_response(status, status=404)
        if request.query.get("watch"):
            return await watches.follow(request)
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 500)
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        meta = orjson.dumps({"resourceVersion": "1", **more})
        body = b'{"metadata":%s,"items":[%s]}' % (meta, b",".join(items[start : start + limit]))
        return web.Response(body=body, content_type="application/json")

    async def created(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/tokenreviews"):
            return web.json_response({"status": {"authenticated": True, "user": {"username": "viewer"}}})
        if request.path.endswith("/subjectaccessreviews"):
            return web.json_response({"status": {"allowed": True}})
        body = await request.read()
        if request.path.endswith("/binding"):
            await bindings.add(request.path.removesuffix("/binding"), orjson.loads(body))
        return web.json_response({"kind": "Status", "status": "Success"}, status=201)

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/bench/rate", watches.set_rate)
    app.router.add_post("/bench/pods", watches.emit_given)
    app.router.add_get("/{path:.*}", listed)
    app.router.add_post("/{path:.*}", created)
    app.router.add_patch("/{path:.*}", created)
    return app


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--pods", type=int, required=True)
    parser.add_argument("--kinds", type=int, default=0)
    parser.add_argument("--claims", type=int, default=0)
    args = parser.parse_args()
    app = build(args.nodes, args.pods, args.kinds, args.claims)
    web.run_app(app, host="127.0.0.1", port=args.port, print=None, access_log=None)


if __name__ == "__main__":
    sys.exit(main())
