"""`make bench-growth`: how answers, memory and CPU grow with the fleet: 100 to 20,000 nodes, 8 pods a node.

Writes a plot as PNG (`--plot`, docs/growth.png) with the standard library alone: log axes, so that linear growth is a
line of slope one, which is drawn grey. The last line is one JSON object: {"runs": [as in bench-extender], "slopes"}.
"""

import argparse
import json
import math
import struct
import sys
import zlib
from itertools import pairwise
from pathlib import Path

from benchmarks.extender import measure

SIZES = (100, 1_000, 5_000, 10_000, 20_000)
KEYS = {
    "p50_ms": (31, 119, 180),
    "empty_p50_ms": (140, 190, 230),
    "rss_mb": (214, 39, 40),
    "cpu_ms_per_pod": (44, 160, 44),
    "start_cpu_s": (148, 103, 189),
}
"""What is plotted, and its colour."""
WIDTH, HEIGHT, MARGIN = 900, 600, 60
GLYPHS = {
    "0": "755557", "1": "262227", "2": "717747", "3": "717717", "4": "557711", "5": "747717", "6": "747757",
    "7": "711122", "8": "757757", "9": "757717", "_": "000007", " ": "000000", "a": "071757", "b": "446556",
    "c": "074447", "d": "113553", "e": "075747", "f": "324622", "g": "075717", "k": "445655", "m": "057755",
    "n": "065555", "o": "075557", "p": "065564", "r": "065444", "s": "074717", "t": "272223", "u": "055557",
    "i": "202222", "w": "055577", "x": "055255", "l": "222223", ".": "000002", ",": "000024", "v": "055552",
    "y": "055717",
}  # fmt: skip
"""Letters three pixels wide and six high, a digit a row."""


def main(argv: list[str] | None = None) -> int:
    """Measure every size, print the results and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--plot", type=Path, default=Path("docs/growth.png"))
    args = parser.parse_args(argv)
    runs = []
    for nodes in map(int, args.sizes.split(",")):
        runs.append(measure(nodes, 8 * nodes, args.calls, 0))
        print(json.dumps(runs[-1]), flush=True)
    args.plot.write_bytes(plot(runs))
    print(json.dumps({"runs": runs, "slopes": {key: slope(runs, key) for key in KEYS}}))
    return 0


def slope(runs: list[dict[str, float]], key: str) -> float:
    """Exponent of the growth between the last two sizes of at least ten times the first: 1 is linear."""
    first, last = runs[-3 if len(runs) > 2 else 0], runs[-1]
    return round(math.log(last[key] / first[key]) / math.log(last["nodes"] / first["nodes"]), 2)


class Canvas:
    """Pixels."""

    def __init__(self) -> None:
        self._rows = [bytearray(b"\xff" * 3 * WIDTH) for _ in range(HEIGHT)]

    def dot(self, x: float, y: float, colour: tuple[int, int, int], size: int = 2) -> None:
        for row in range(int(y), int(y) + size):
            for column in range(int(x), int(x) + size):
                if 0 <= row < HEIGHT and 0 <= column < WIDTH:
                    self._rows[row][3 * column : 3 * column + 3] = bytes(colour)

    def line(self, a: tuple[float, float], b: tuple[float, float], colour: tuple[int, int, int], size: int = 2) -> None:
        steps = int(max(abs(b[0] - a[0]), abs(b[1] - a[1]), 1))
        for step in range(steps + 1):
            share = step / steps
            self.dot(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, colour, size)

    def text(self, x: float, y: float, words: str, colour: tuple[int, int, int] = (0, 0, 0)) -> None:
        for i, letter in enumerate(words):
            for row, bits in enumerate(GLYPHS.get(letter, "000000")):
                for column in range(3):
                    if int(bits) & (4 >> column):
                        self.dot(x + 8 * i + 2 * column, y + 2 * row, colour)

    def png(self) -> bytes:
        """The image."""
        raw = b"".join(b"\0" + bytes(row) for row in self._rows)
        parts = ((b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw, 9)))
        chunks = (*parts, (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


def plot(runs: list[dict[str, float]]) -> bytes:
    """Every key against the nodes, both axes logarithmic."""
    canvas = Canvas()
    left, right = math.log10(runs[0]["nodes"]), math.log10(runs[-1]["nodes"])
    values = [run[key] for run in runs for key in KEYS if run[key] > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def at(nodes: float, value: float) -> tuple[float, float]:
        x = MARGIN + (math.log10(nodes) - left) / max(right - left, 1e-9) * (WIDTH - 2 * MARGIN)
        return x, HEIGHT - MARGIN - (math.log10(max(value, 10**low)) - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    for power in range(low, high + 1):
        y = at(runs[0]["nodes"], 10**power)[1]
        canvas.line((MARGIN, y), (WIDTH - MARGIN, y), (225, 225, 225), 1)
        canvas.text(8, y - 6, f"{10**power:g}")
    for run in runs:
        x = at(run["nodes"], 10**low)[0]
        canvas.line((x, MARGIN), (x, HEIGHT - MARGIN), (225, 225, 225), 1)
        canvas.text(x - 16, HEIGHT - MARGIN + 10, f"{run['nodes']:,.0f}")
    canvas.text(WIDTH / 2 - 20, HEIGHT - 24, "nodes")
    for number, (key, colour) in enumerate(KEYS.items()):
        points = [at(run["nodes"], run[key]) for run in runs]
        for a, b in pairwise(points):
            canvas.line(a, b, colour, 3)
        canvas.text(MARGIN + 12, MARGIN + 8 + 18 * number, key, colour)
        first = runs[0]
        linear = [at(run["nodes"], first[key] * run["nodes"] / first["nodes"]) for run in runs]
        for a, b in pairwise(linear):
            if b[1] > MARGIN / 2:
                canvas.line(a, b, (190, 190, 190), 1)
    return canvas.png()


if __name__ == "__main__":
    sys.exit(main())
