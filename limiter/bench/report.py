"""Runs the cost program bare and in three slices, prints what Kerf adds, checks it against the targets."""

import json
import os
import subprocess
import sys
from pathlib import Path

from kerf.wire.limiter import CardLimit, LedgerSpec, render_ledger

LIBRARY, FOLDER = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
TARGETS = {"launch_unlimited": 5, "launch_limited": 25, "pair_10": 300, "pair_10000": 300, "pair_1000000": 300}
SLICES = {
    "memory": CardLimit("0", 2**40, None),
    "cores": CardLimit("0", 2**40, 99),
}


def cost(limit: CardLimit | None) -> dict[str, float]:
    """Nanoseconds a call, bare or in a slice; the better of two runs."""
    environment = {**os.environ, "FAKE_FAST": "1", "FAKE_MEMORY_MIB": "1048576"}
    if limit is not None:
        (FOLDER / "ledger").write_bytes(render_ledger(LedgerSpec((limit,))))
        environment |= {"LD_PRELOAD": str(LIBRARY), "KERF_LEDGER": str(FOLDER / "ledger")}
    runs = [
        json.loads(subprocess.run([FOLDER / "cost"], env=environment, capture_output=True, check=True).stdout)
        for _ in range(2)
    ]
    return {name: min(run[name] for run in runs) for name in runs[0]}


bare, memory, cores = cost(None), cost(SLICES["memory"]), cost(SLICES["cores"])
added = {
    "launch_unlimited": memory["launch"] - bare["launch"],
    "launch_limited": cores["launch"] - bare["launch"],
    **{name: memory[name] - bare[name] for name in bare if name.startswith("pair")},
}
print(f"{'':18}{'bare':>10}{'with Kerf':>12}{'added':>10}{'target':>10}   (ns)")
for name, ns in added.items():
    call = name if name in bare else "launch"
    under = cores[call] if name == "launch_limited" else memory[call]
    print(f"{name:18}{bare[call]:10.1f}{under:12.1f}{ns:10.1f}{TARGETS[name]:10}")
missed = [name for name, ns in added.items() if ns > TARGETS[name]]
rounded = {name: round(ns, 1) for name, ns in added.items()}
print(json.dumps({"added_ns": rounded, "targets_ns": TARGETS, "missed": missed}))
sys.exit(1 if missed else 0)
