"""Golden renders: ``python -m tests.chart.golden`` writes them again. A case is a values file; `default` has none."""

import sys

from tests.chart.helm import CASES, GOLDEN, template

HEADER = "# Rendered by `make chart-golden` from tests/chart/cases/{name}.yaml; do not edit.\n"


def names() -> list[str]:
    return sorted(case.stem for case in CASES.glob("*.yaml"))


def text_of(name: str) -> str:
    return HEADER.format(name=name) + template("--values", str(CASES / f"{name}.yaml"))


def main() -> int:
    GOLDEN.mkdir(exist_ok=True)
    for stale in GOLDEN.glob("*.yaml"):
        stale.unlink()
    for name in names():
        (GOLDEN / f"{name}.yaml").write_text(text_of(name))
        print(f"{name}: {len(text_of(name).splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
