"""`make bench-claims`: how long the allocation of a claim waits for Kerf's count.

The real scheduler and the real webhook over HTTPS, on a fleet whose cards are in DRA's hands, with claims in use and
twenty tenants. kube-scheduler's write of an allocation waits at the API server until the webhook has answered, and the
webhook asks the scheduler's leader; this program sends what the API server sends, each time about a claim that was not
asked about before. Calls of three kinds take turns: to the leader alone, to the webhook, and to the webhook by eight
clients at once.
The last line is one JSON object: {"runs": [{"nodes", "claims", "leader_p50_ms", "leader_p99_ms", "answer_p50_ms",
"answer_p99_ms", "busy_p50_ms", "busy_p99_ms", "rss_mb"}]}.
"""

import argparse
import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from benchmarks.fake_api_server import claim_json
from benchmarks.http_client import Client, await_port, free_port, peak_mb, spawn, write_kubeconfig
from benchmarks.timing import percentiles, timed
from kerf.http.pki import Authority
from kerf.wire.allocations import PATH, parse_answer, render_question

BLOCK = 50
CLIENTS = 8
NEW = 10_000_000
"""Numbers of claims from here on are not in the cluster yet."""
Ask = Callable[[int], None]


def main(argv: list[str] | None = None) -> int:
    """Measure every size and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000x8000,5000x40000", help="NODESxCLAIMS, comma-separated")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each kind a size")
    args = parser.parse_args(argv)
    runs = []
    for size in args.sizes.split(","):
        nodes, claims = (int(part) for part in size.split("x"))
        runs.append(measure(nodes, claims, args.calls))
        print(json.dumps(runs[-1]), flush=True)
    print(json.dumps({"runs": runs}))
    return 0


def measure(nodes: int, claims: int, calls: int) -> dict[str, float]:
    """Measure one size."""
    api_port, port, webhook_port = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        flags = ("--port", api_port, "--nodes", nodes, "--pods", 0, "--claims", claims)
        started: list[subprocess.Popen[bytes]] = [spawn("benchmarks.fake_api_server", *flags)]
        try:
            await_port(api_port)
            cluster = ("--kubeconfig", write_kubeconfig(root, api_port), "--log-level", "error")
            scheduler = spawn("scheduler", *cluster, "--bind", f"127.0.0.1:{port}", "--dra")
            started.append(scheduler)
            trust, files = certificate(root)
            where = ("--bind", f"127.0.0.1:{webhook_port}", "--scheduler", f"127.0.0.1:{port}")
            started.append(spawn("webhook", *cluster, *where, *files))
            return {"nodes": nodes, "claims": claims, **measured(nodes, port, (webhook_port, trust), calls)} | {
                "rss_mb": peak_mb(scheduler.pid)
            }
        finally:
            for process in started:
                process.kill()
                process.wait()


def certificate(folder: Path) -> tuple[ssl.SSLContext, tuple[str, ...]]:
    """Who trusts the webhook's certificate, and the flags that name it."""
    authority = Authority()
    cert, key = authority.issue("webhook", hosts=("127.0.0.1",)).write(folder, "webhook")
    trust = ssl.create_default_context(cadata=authority.certificate.decode())
    return trust, ("--tls-cert", str(cert), "--tls-key", str(key))


def measured(nodes: int, port: int, webhook: tuple[int, ssl.SSLContext], calls: int) -> dict[str, float]:
    """The three kinds of calls in turns."""
    leader, reviewer = Client(port), Reviewer(*webhook)
    several = [Reviewer(*webhook) for _ in range(CLIENTS)]
    await_count(lambda number: ask_leader(leader, number, nodes))
    await_count(lambda number: reviewer.ask(number, nodes))
    times: dict[str, list[float]] = {"leader": [], "answer": [], "busy": []}
    number = NEW
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(max(1, calls // BLOCK)):
            for _ in range(BLOCK):
                times["leader"].append(timed(lambda at=number: ask_leader(leader, at, nodes)))  # type: ignore[misc]
                times["answer"].append(timed(lambda at=number + 1: reviewer.ask(at, nodes)))  # type: ignore[misc]
                number += 2
            parts = [pool.submit(block, one, number + i * BLOCK, nodes) for i, one in enumerate(several)]
            times["busy"] += [seconds for part in parts for seconds in part.result()]
            number += CLIENTS * BLOCK
    return {key: value for kind, seconds in times.items() for key, value in percentiles(kind, seconds).items()}


class Reviewer:
    """An API server's connection to the webhook."""

    def __init__(self, port: int, trust: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=trust)

    def ask(self, number: int, nodes: int) -> None:
        """One review. Raises ValueError where it is refused, OSError where there is no answer."""
        body = orjson.dumps(review(number, nodes))
        try:
            self._connection.request("POST", "/mutate", body, {"Content-Type": "application/json"})
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        answer = orjson.loads(self._connection.getresponse().read())["response"]
        if not answer["allowed"]:
            raise ValueError(answer["status"]["message"])


def block(reviewer: Reviewer, first: int, nodes: int) -> list[float]:
    """Seconds of each of some calls, one after the other."""
    return [timed(lambda at=number: reviewer.ask(at, nodes)) for number in range(first, first + BLOCK)]  # type: ignore[misc]


def ask_leader(client: Client, number: int, nodes: int) -> None:
    """One question to the leader. Raises ValueError where it is refused."""
    claim, old = claim_json(number, nodes), waiting(number, nodes)
    if why := parse_answer(client.send(PATH, render_question(claim, old, keep=True), {})):
        raise ValueError(why)


def waiting(number: int, nodes: int) -> dict[str, Any]:
    """The claim before it is allocated."""
    return {**claim_json(number, nodes), "status": {}}


def review(number: int, nodes: int) -> dict[str, Any]:
    """What the API server sends when kube-scheduler writes an allocation."""
    claim = claim_json(number, nodes)
    group = {"group": "resource.k8s.io", "version": "v1"}
    request = {
        "uid": claim["metadata"]["uid"],
        "kind": {**group, "kind": "ResourceClaim"},
        "resource": {**group, "resource": "resourceclaims"},
        "subResource": "status",
        "operation": "UPDATE",
        "namespace": claim["metadata"]["namespace"],
        "name": claim["metadata"]["name"],
        "userInfo": {"username": "system:kube-scheduler"},
        "object": claim,
        "oldObject": waiting(number, nodes),
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def await_count(ask: Ask) -> None:
    """Wait until the first question is answered."""
    deadline, last = time.monotonic() + 600, ""
    while time.monotonic() < deadline:
        try:
            ask(NEW - 1)
            return
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            last = str(error)
            time.sleep(0.1)
    raise SystemExit(f"no claim was counted within 600 s: {last}")


if __name__ == "__main__":
    sys.exit(main())
