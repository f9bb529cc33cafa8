"""The benchmark's results as Markdown: `table.py OUT [PAGE]`.

Reads OUT/part*.json. With a page, replaces the text between its lines `<!-- measured -->` and
`<!-- /measured -->`. Without one, prints.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
TITLES = {
    "1": "Limits on memory, and what calls cost",
    "2": "Caps, one tenant alone",
    "3": "Tenants side by side",
}
MEMORY = re.compile(r"memory (\w+) (\d+) MiB of (\d+) MiB")
MIB = 2**20


def render_row(*cells: str) -> str:
    """One line of a table. The first cell is its heading."""
    return f"| {' | '.join(cells)} |"


def render_fill(kind: str, fill: Json, limit_mib: int) -> str:
    """The result of one way to allocate: use by NVML against the limit, and the share that the program got."""
    granted = f"{fill['granted'] / limit_mib / MIB * 100:.1f} % to the program"
    if kind == "managed":
        return granted
    if fill["error"] is None:
        return f"NVML silent, {granted}"
    return f"{fill['error'] * 100:+.2f} %, {granted}"


def render_memory(data: Json) -> list[str]:
    """One line per way to allocate, one column per limit. Empty if none was measured."""
    fills: dict[tuple[str, str], dict[int, str]] = {}
    for key, fill in data.items():
        if found := MEMORY.fullmatch(key):
            kind, block, limit = found[1], found[2], int(found[3])
            fills.setdefault((kind, block), {})[limit] = render_fill(kind, fill, limit)
    limits = sorted({limit for cells in fills.values() for limit in cells})
    if not fills:
        return []
    lines = [
        "Memory that NVML sees in use when the driver says no, against the limit:",
        "",
        render_row("memory from, first blocks of", *(f"limit {limit} MiB" for limit in limits)),
        render_row("---", *("---:" for _ in limits)),
    ]
    lines += [
        render_row(f"`{kind}`, {block} MiB", *(cells.get(limit, "") for limit in limits))
        for (kind, block), cells in fills.items()
    ]
    return [*lines, ""]


def render_part(result: Json) -> list[str]:
    """One part under its heading, failures included."""
    rows = [row for row in result["rows"] if not row[0].startswith("memory: ")]
    lines = [f"### {TITLES[result['part']]}", "", *render_memory(result["data"])]
    if rows:
        lines += [render_row("metric", "bare", "ours"), render_row("---", "---:", "---:")]
        lines += [render_row(*row) for row in rows] + [""]
    if result["problems"]:
        failed = ", ".join(problem.split(":", maxsplit=1)[0] for problem in result["problems"])
        lines += [f"Not measured, the program failed: {failed}.", ""]
    return lines


def render_results(folder: Path) -> str:
    """All parts in a folder, in order."""
    paths = sorted(folder.glob("part*.json"))
    if not paths:
        raise SystemExit(f"no part*.json in {folder}")
    return "\n".join(line for path in paths for line in render_part(json.loads(path.read_text())))


def paste(page: Path, text: str) -> None:
    """Replace the text between the page's markers."""
    before, found, rest = page.read_text().partition(f"{BEGIN}\n")
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{page} lacks the line {BEGIN} or {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def main(folder: str, page: str | None = None) -> None:
    """Print the results, or paste them into a page."""
    text = render_results(Path(folder))
    if page is None:
        print(text)
    else:
        paste(Path(page), text)


if __name__ == "__main__":
    main(*sys.argv[1:])
