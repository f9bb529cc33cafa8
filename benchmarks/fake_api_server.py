"""An API server with a fixed fleet over real HTTP, for the extender's benchmark: list, watch (no events), binding.

The extender under test is the real process with its real client. This server replaces only the cluster of thousands of
nodes, at the HTTP boundary.
"""

import argparse
import asyncio
import json
import sys
from typing import Any

import orjson
from aiohttp import web

CARDS = 8
MODEL = "NVIDIA H100 80GB HBM3"
MEMORY = 81_559
SIZES = ((8000, 10), (16_000, 20), (24_000, 30), (40_000, 50), (4000, 5))


def node_json(number: int) -> dict[str, Any]:
    """A node with eight cards."""
    name = f"node-{number:05}"
    cards = [
        {
            "id": f"GPU-{number:05}-{i}",
            "index": i,
            "vendor": "nvidia",
            "model": MODEL,
            "memory_mib": MEMORY,
            "numa": i // 4,
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


def build(nodes: int, pods: int) -> web.Application:
    """The HTTP routes."""
    lists = {
        "/api/v1/nodes": [orjson.dumps(node_json(i)) for i in range(nodes)],
        "/api/v1/resourcequotas": [],
        "/api/v1/pods": [orjson.dumps(pod_json(i, nodes)) for i in range(pods)],
    }

    async def listed(request: web.Request) -> web.StreamResponse:
        if "/pods/new-" in request.path:
            return web.json_response(pending(int(request.path.rpartition("-")[2])))
        items = lists.get(request.path)
        if items is None:
            status = {"kind": "Status", "code": 404, "reason": "NotFound", "message": "none"}
            return web.json_response(status, status=404)
        if request.query.get("watch"):
            response = web.StreamResponse()
            await response.prepare(request)
            await asyncio.sleep(3600)
            return response
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 500)
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        meta = orjson.dumps({"resourceVersion": "1", **more})
        body = b'{"metadata":%s,"items":[%s]}' % (meta, b",".join(items[start : start + limit]))
        return web.Response(body=body, content_type="application/json")

    async def created(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({"kind": "Status", "status": "Success"}, status=201)

    app = web.Application(client_max_size=1 << 24)
    app.router.add_get("/{path:.*}", listed)
    app.router.add_post("/{path:.*}", created)
    return app


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--pods", type=int, required=True)
    args = parser.parse_args()
    web.run_app(build(args.nodes, args.pods), host="127.0.0.1", port=args.port, print=None, access_log=None)


if __name__ == "__main__":
    sys.exit(main())
