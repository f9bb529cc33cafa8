"""Open pages beside the extender's answers: pairs of blocks of cycles, with so many viewers and with none.

Each viewer reads the live page's events in a thread of another process, as fast as they come. The fleet changes with
every pod that the cycles bind.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.http_client import spawn

PAIRS = 10
SETTLE_S = 3.0
HEADERS = {"kerf-page": "1", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Milliseconds of a cycle in the middle, with viewers and without."""

    none_ms: float
    viewers_ms: float

    @property
    def ratio(self) -> float:
        return self.viewers_ms / self.none_ms


def ratios(page_port: int, viewers: int, block: Callable[[], float], pairs: int = PAIRS) -> dict[str, float]:
    """Run the pairs, the order turned each time. `block` runs cycles and gives the median of one, in milliseconds."""
    found = []
    for number in range(pairs):
        if number % 2:
            seen = watched(page_port, viewers, block)
            found.append(Pair(block(), seen))
        else:
            alone = block()
            found.append(Pair(alone, watched(page_port, viewers, block)))
    middle = sorted(found, key=lambda pair: pair.ratio)[len(found) // 2]
    return {
        "viewers": viewers,
        "pairs": pairs,
        "none_p50_ms": round(middle.none_ms, 3),
        "viewers_p50_ms": round(middle.viewers_ms, 3),
        "ratio": round(middle.ratio, 3),
    }


def watched(page_port: int, viewers: int, block: Callable[[], float]) -> float:
    """One block while pages are open."""
    process: subprocess.Popen[bytes] = spawn("benchmarks.viewers", page_port, viewers)
    try:
        time.sleep(SETTLE_S)  # every page has its first picture
        if process.poll() is not None:
            raise SystemExit("the viewers could not open the page")
        return block()
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """Open pages and read them until killed: PORT VIEWERS."""
    port, viewers = int(sys.argv[1]), int(sys.argv[2])
    threads = [threading.Thread(target=watch, args=(port, sign_in(port)), daemon=True) for _ in range(viewers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1


def sign_in(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/api/sign-in", json.dumps({"token": "any"}), HEADERS)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return (answer.headers["Set-Cookie"] or "").partition(";")[0]


def watch(port: int, cookie: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/events", headers={"Cookie": cookie})
    answer = connection.getresponse()
    while answer.read1(1 << 16):
        pass


if __name__ == "__main__":
    sys.exit(main())
