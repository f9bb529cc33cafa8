"""The tests that `make check` leaves to `make unit`: `make slow-list` measures all of them and writes slow.txt.

The functions that take the most CPU time are left out until the others fit into the quick loop. A function of many
small cases stays in it: they are worth their time.
"""

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("slow.txt")
QUICK_S = 30.0
"""CPU seconds of all tests of the quick loop. What starts the workers and collects the tests comes on top."""
CASE_S = 0.01
"""CPU seconds of a function's case, on average, below which it is small."""
_HEAD = "# Written by `make slow-list`: the test functions that `make check` leaves out. `make unit` runs all.\n"
_UNIT = "not chart and not cluster and not limiter and not gpu and not browser"
_MEASURES = "KERF_MEASURES"
OWN_TEST = "tests/arch/test_slow_list.py"
"""It stays in the quick loop, for who renames a slow test."""


def slow_functions() -> frozenset[str]:
    """`path::function` of each slow test."""
    return frozenset(line for line in LIST.read_text().splitlines() if not line.startswith("#"))


def function_of(nodeid: str) -> str:
    """A test's id without the case."""
    return nodeid.partition("[")[0]


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark the slow tests."""
    slow = slow_functions()
    for item in items:
        if function_of(item.nodeid) in slow:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Write down the CPU time of a test. Only a run of this module as a plugin comes here."""
    before = _cpu_s()
    answer = yield
    with Path(os.environ[_MEASURES]).open("a") as file:
        file.write(f"{_cpu_s() - before} {item.nodeid}\n")
    return answer


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def chosen(measures: Iterable[str], quick_s: float = QUICK_S) -> list[str]:
    """The slow functions of lines of CPU seconds and test id."""
    seconds: Counter[str] = Counter()
    cases: Counter[str] = Counter()
    for line in measures:
        used, _, nodeid = line.partition(" ")
        seconds[function_of(nodeid)] += float(used)
        cases[function_of(nodeid)] += 1
    over = sum(seconds.values()) - quick_s
    slow = []
    for name, used in seconds.most_common():
        if over > 0 and used / cases[name] >= CASE_S and not name.startswith(OWN_TEST):
            slow.append(name)
            over -= used
    return sorted(slow)


def main() -> int:
    """Run the unit tests and write the list. The status is that of the tests."""
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    measures = folder / "slow-measures"
    measures.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "tests.slow", "-n", "2", "-m", _UNIT]
    status = subprocess.run(command, env={**os.environ, _MEASURES: str(measures.absolute())}, check=False).returncode
    if status == 0:
        LIST.write_text(_HEAD + "".join(f"{name}\n" for name in chosen(measures.read_text().splitlines())))
    return status


if __name__ == "__main__":
    sys.exit(main())
