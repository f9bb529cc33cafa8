"""Further traces made from two of openb's, as its authors made theirs: by drawing pods, and by giving pods card models.

    python -m benchmarks.openb_variants --traces DIR --into DIR

The authors' own are in alibaba/clusterdata; these stand in for them where only a few are at hand, and more of each can
be drawn (`--seed`). Of the default trace: in `share100~` every pod with GPUs has a part of one, in `multi50~` pods with
several ask for half of all GPUs, in `cpu250~` there are many more pods without. Of `gpuspec20`: in `spec33~` a third of
the pods with GPUs name models of cards, distributed over sizes as those that do so already.
"""

import argparse
import csv
import random
import shutil
import sys
from collections import defaultdict
from pathlib import Path

Row = dict[str, str]
SPEC = 0.338
MULTI = 0.5
WITHOUT = 2356


def share100(rows: list[Row], rng: random.Random) -> list[Row]:
    """Pods without GPUs, and as many GPU pods as before, all drawn from those with a part of a GPU."""
    shares = [row for row in rows if row["num_gpu"] == "1" and int(row["gpu_milli"]) < 1000]
    return [row if row["num_gpu"] == "0" else rng.choice(shares) for row in rows]


def multi50(rows: list[Row], rng: random.Random) -> list[Row]:
    """All pods, and further ones with several GPUs until these ask for half of all."""
    several = [row for row in rows if int(row["num_gpu"]) > 1]
    found, asked = list(rows), sum(_gpus(row) for row in rows)
    of_several = sum(_gpus(row) for row in several)
    while of_several < MULTI * asked:
        found.append(rng.choice(several))
        asked, of_several = asked + _gpus(found[-1]), of_several + _gpus(found[-1])
    return found


def cpu250(rows: list[Row], rng: random.Random) -> list[Row]:
    """All pods with GPUs, and more without."""
    none = [row for row in rows if row["num_gpu"] == "0"]
    return [row for row in rows if row["num_gpu"] != "0"] + [rng.choice(none) for _ in range(WITHOUT)]


def spec33(rows: list[Row], rng: random.Random) -> list[Row]:
    """Further pods name models: each like one that does already, of the same size where there is one."""
    naming = [row for row in rows if row["gpu_spec"]]
    silent = defaultdict(list)
    for i, row in enumerate(rows):
        if row["num_gpu"] != "0" and not row["gpu_spec"]:
            silent[row["num_gpu"], row["gpu_milli"]].append(i)
    found = list(rows)
    more = round(SPEC * sum(row["num_gpu"] != "0" for row in rows)) - len(naming)
    while more > 0:
        like = rng.choice(naming)
        alike = silent[like["num_gpu"], like["gpu_milli"]]
        if alike:
            i = alike.pop(rng.randrange(len(alike)))
            found[i] = {**rows[i], "gpu_spec": like["gpu_spec"]}
            more -= 1
    return found


def _gpus(row: Row) -> int:
    return int(row["num_gpu"]) * int(row["gpu_milli"])


VARIANTS = {
    "share100~": ("default", share100),
    "multi50~": ("default", multi50),
    "cpu250~": ("default", cpu250),
    "spec33~": ("gpuspec20", spec33),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--traces", type=Path, required=True, help="folder with the openb CSV files")
    parser.add_argument("--into", type=Path, required=True, help="folder for these and the new ones")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    for path in arguments.traces.glob("openb_*.csv"):
        shutil.copyfile(path, arguments.into / path.name)
    for name, (source, make) in VARIANTS.items():
        with (arguments.traces / f"openb_pod_list_{source}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        made = make(rows, random.Random(f"{name} {arguments.seed}"))
        with (arguments.into / f"openb_pod_list_{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
