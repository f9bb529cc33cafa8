"""Time of one estimate, and of a catalogue of a thousand entries. The last line is one JSON object."""

import json
import statistics
import time
from pathlib import Path

import yaml

from kerf.catalogue import shipped
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.modelhub import specs_of
from kerf.sizing.request import Ask
from kerf.sizing.verdicts import judge
from kerfctl.model.sources import load_row

ROOT = Path(__file__).parents[1]
ENTRIES = 1000


def main() -> None:
    config = json.loads((ROOT / "kerf/catalogue/rows/qwen3-235b-a22b-fp8.json").read_text())["config"]
    ask = Ask(max_len=32_768, concurrency=8, card="H200")
    times = []
    for _ in range(50):
        start = time.perf_counter()
        estimate(read_model(config), ask)
        times.append(time.perf_counter() - start)
    _ = load_row("qwen3-8b").model
    documents = list(yaml.safe_load_all((ROOT / "examples/models/index.yaml").read_text()))
    entries = specs_of(documents * (ENTRIES // 3 + 1))[:ENTRIES]
    start = time.process_time()
    found = [judge(entry, "entry", shipped().model) for entry in entries]
    seconds = time.process_time() - start
    answer = {
        "estimate_ms": round(1000 * statistics.median(times), 1),
        "entries": len(found),
        "refused": sum(not one.ok for one in found),
        "validate_s": round(seconds, 2),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
