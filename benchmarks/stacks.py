"""`make bench-stacks`: HTTP stacks and codecs for the extender, the candidates of docs/adr side by side.

Each candidate answers filter and prioritize with every node, in a process of its own; the calls alternate between all
of them, so that noise meets each alike. Candidates whose package is not installed are left out. The last line is one
JSON object: {"nodes": {"<candidate>": {"p50_ms", "p99_ms", "cpu_ms"}}}.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import orjson

from benchmarks.fake_api_server import pending
from benchmarks.http_client import Client, await_port, cpu_s, free_port
from kerf.http.server import Limits, Response, Server

NEEDS = {"httptools": ("httptools",), "msgspec": ("msgspec",)}
CANDIDATES = (
    "aiohttp asyncio loads",
    "aiohttp uvloop loads",
    "aiohttp uvloop msgspec",
    "aiohttp uvloop raw",
    "httptools uvloop raw",
    "kerf uvloop raw",
    "own uvloop raw",
    "own asyncio raw",
)
"""Server, event loop, and how bodies are read and written: `loads` decodes all of it, `raw` the names alone."""
SEPARATOR = b',"NodeNames":'


def main(argv: list[str] | None = None) -> int:
    """Measure the candidates, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", default="1000,5000")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.serve:
        serve(args.serve[0].split(), int(args.serve[1]))
        return 0
    found = {nodes: measure(int(nodes), args.calls) for nodes in args.nodes.split(",")}
    print(json.dumps(found))
    return 0


def measure(nodes: int, calls: int) -> dict[str, dict[str, float]]:
    """Every candidate at one size."""
    names = [f"node-{i:05}" for i in range(nodes)]
    here = [c for c in CANDIDATES if all(find_spec(p) for word in c.split() for p in NEEDS.get(word, ()))]
    started, clients = [], {}
    try:
        for candidate in here:
            port = free_port()
            command = [sys.executable, "-m", "benchmarks.stacks", "--serve", candidate, str(port)]
            started.append(subprocess.Popen(command))
            await_port(port)
            clients[candidate] = Client(port)
        times: dict[str, list[float]] = {candidate: [] for candidate in here}
        before = [cpu_s(process.pid) for process in started]
        for number in range(calls):
            pod = pending(number)
            for candidate, client in clients.items():
                begin = time.perf_counter()
                fits = orjson.loads(client.post("/filter", {"Pod": pod, "NodeNames": names}))["NodeNames"]
                orjson.loads(client.post("/prioritize", {"Pod": pod, "NodeNames": fits}))
                times[candidate].append(time.perf_counter() - begin)
        used = [cpu_s(process.pid) - b for process, b in zip(started, before, strict=True)]
    finally:
        for process in started:
            process.kill()
            process.wait()
    found = {}
    for candidate, cpu in zip(here, used, strict=True):
        taken = sorted(times[candidate])
        found[candidate] = {
            "p50_ms": round(taken[len(taken) // 2] * 1000, 2),
            "p99_ms": round(taken[int(len(taken) * 0.99)] * 1000, 2),
            "cpu_ms": round(cpu / calls * 1000, 2),
        }
        print(f"{nodes:6} {candidate:24} {found[candidate]}", flush=True)
    return found


# ---- the codecs: body of filter or prioritize to the body of the answer
def loads(path: str, body: bytes) -> bytes:
    """orjson, all of the body."""
    return answer(path, orjson.loads(body)["NodeNames"])


def msgspec_loads() -> Callable[[str, bytes], bytes]:
    """msgspec, of which only the names are decoded; the pod stays raw."""
    import msgspec

    query = msgspec.defstruct("Query", [("Pod", msgspec.Raw), ("NodeNames", list[str])])
    decoder = msgspec.json.Decoder(query)
    return lambda path, body: answer(path, decoder.decode(body).NodeNames)


def answer(path: str, names: list[str]) -> bytes:
    """Both answers through orjson."""
    if path == "/filter":
        return orjson.dumps({"NodeNames": names, "FailedNodes": {}, "FailedAndUnresolvableNodes": {}, "Error": ""})
    return orjson.dumps([{"Host": name, "Score": 0} for name in names])


class Raw:
    """The names stay text in both directions; scores are digits written into a prepared answer."""

    def __init__(self) -> None:
        self._known = (b"", b"")

    def __call__(self, path: str, body: bytes) -> bytes:
        at = body.rindex(SEPARATOR)
        orjson.loads(body[:at] + b"}")
        names = body[at + len(SEPARATOR) : -1]
        if path == "/filter":
            rows = names[2:-2].split(b'","')
            self._known = (names, b'[{"Host":"' + b'","Score":0},{"Host":"'.join(rows) + b'","Score":0}]')
            return b'{"NodeNames":%s,"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}' % names
        return self._known[1] if self._known[0] == names else b"[]"


# ---- the servers
def serve(candidate: list[str], port: int) -> None:
    """Be one candidate until the process is killed."""
    server, loop_name, codec_name = candidate
    codecs: dict[str, Callable[[], Callable[[str, bytes], bytes]]] = {
        "loads": lambda: loads,
        "msgspec": msgspec_loads,
        "raw": Raw,
    }
    codec = codecs[codec_name]()
    if loop_name == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    if server == "aiohttp":
        serve_aiohttp(loop, port, codec)
        return
    if server == "kerf":
        handle = lambda request: Response(codec(request.head.path, request.body))  # noqa: E731
        routes = {("POST", "/filter"): handle, ("POST", "/prioritize"): handle}
        kerf = Server(routes, Limits(16 << 20), lambda _, error: Response(str(error).encode(), 500), print)
        loop.run_until_complete(kerf.listen(("127.0.0.1", port), None))
        loop.run_forever()
    protocol = httptools_protocol(codec) if server == "httptools" else (lambda: Own(codec))
    loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", port))
    loop.run_forever()


def serve_aiohttp(loop: asyncio.AbstractEventLoop, port: int, codec: Callable[[str, bytes], bytes]) -> None:
    """The stack that Kerf began with, without middlewares."""
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=codec(request.path, await request.read()), content_type="application/json")

    app = web.Application(client_max_size=16 << 20)
    app.router.add_post("/filter", handle)
    app.router.add_post("/prioritize", handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, loop=loop)


def head(length: int) -> bytes:
    """The head of an answer."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length


def httptools_protocol(codec: Callable[[str, bytes], bytes]) -> Callable[[], asyncio.Protocol]:
    """A protocol of our own over llhttp."""
    import httptools

    class Connection(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)
            self.path, self.parts = "", []

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_url(self, url: bytes) -> None:
            self.path = url.decode()

        def on_body(self, data: bytes) -> None:
            self.parts.append(data)

        def on_message_complete(self) -> None:
            result = codec(self.path, b"".join(self.parts))
            self.parts = []
            self.transport.writelines((head(len(result)), result))  # type: ignore[attr-defined]

    return Connection


class Own(asyncio.Protocol):
    """The smallest reader of requests that have a Content-Length: what a parser can cost at least."""

    def __init__(self, codec: Callable[[str, bytes], bytes]) -> None:
        self._codec = codec
        self._parts: list[bytes] = []
        self._have = self._need = 0
        self._path = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._need:
            end = data.index(b"\r\n\r\n") + 4
            lines = data[:end].lower().split(b"\r\n")
            self._path = data[: data.index(b"\r\n")].split(b" ")[1].decode()
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            self._need, self._have, self._parts = end + length, 0, []
            self._head = end
        self._parts.append(data)
        self._have += len(data)
        if self._have >= self._need:
            body = b"".join(self._parts)[self._head :]
            self._need = 0
            result = self._codec(self._path, body)
            self._transport.writelines((head(len(result)), result))  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
