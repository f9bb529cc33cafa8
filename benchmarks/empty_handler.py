"""The yardstick of `make bench-extender`: a handler that decides nothing, on the HTTP stack that Kerf began with.

aiohttp, orjson and uvloop, without middlewares: read the body, decode it, answer with every node and with equal scores.
It stays as it is when Kerf's own stack changes, so that Kerf is never measured by itself.
"""

import argparse
import importlib.metadata
import sys

import orjson
import uvloop
from aiohttp import web

VERSIONS = {"aiohttp": "3.14.5", "orjson": "3.13.0", "uvloop": "0.23.0"}
"""Those with which the limits in the benchmark were set; others are reported."""
LARGEST_BODY = 16 << 20


async def answer_filter(request: web.Request) -> web.Response:
    names = orjson.loads(await request.read())["NodeNames"]
    return _json({"NodeNames": names, "FailedNodes": {}, "FailedAndUnresolvableNodes": {}, "Error": ""})


async def answer_prioritize(request: web.Request) -> web.Response:
    names = orjson.loads(await request.read())["NodeNames"]
    return _json([{"Host": name, "Score": 0} for name in names])


async def answer_bind(request: web.Request) -> web.Response:
    orjson.loads(await request.read())
    return _json({"Error": ""})


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def other_versions() -> dict[str, str]:
    """Installed packages of the stack whose version is not the one that the limits were set with."""
    found = {name: importlib.metadata.version(name) for name in VERSIONS}
    return {name: version for name, version in found.items() if version != VERSIONS[name]}


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    app = web.Application(client_max_size=LARGEST_BODY)
    app.router.add_post("/filter", answer_filter)
    app.router.add_post("/prioritize", answer_prioritize)
    app.router.add_post("/bind", answer_bind)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=args.port, print=None, access_log=None, loop=loop)


if __name__ == "__main__":
    sys.exit(main())
