"""`make chaos`: the bad days, one verdict line each; the last line is one JSON object.

`DAYS=name,...` runs some; `--short` makes them as short as in `make test`. Days of a real node (device plugin upgraded
or killed, kubelet restarted, cards lost, with pods running) and of several clusters are cluster tests of those, run
from here by pytest. So is the day of MPS, on a node and a leader in one process.
"""

import argparse
import json
import subprocess
import sys
import time

from sandbox import node_obstacle
from tests.cluster.chaos.days import DAYS
from tests.cluster.chaos.verdict import Verdict, a_world, live_through
from tests.cluster.chaos.world import FULL, SHORT

PLUGIN_TESTS, RECOVERY_TESTS = "tests/cluster/test_deviceplugin.py", "tests/cluster/test_recovery.py"
NODE_DAYS = {
    "kubelet-restarted": (PLUGIN_TESTS, "test_with_the_kubelet_restarted_half_way"),
    "plugin-upgraded": (PLUGIN_TESTS, "test_a_plugin_that_is_asked_to_stop_withdraws_its_cards or killed_half_way"),
    "card-lost": (RECOVERY_TESTS, "lost_card"),
    "card-returns": (RECOVERY_TESTS, "comes_back"),
    "eviction-held": (RECOVERY_TESTS, "budget_holds"),
    "plugin-killed-at-a-fault": (RECOVERY_TESTS, "before_it_reports or between_seeing"),
    "cards-fail-at-once": (RECOVERY_TESTS, "half_of_the_cards"),
    "instance-fault": ("tests/cluster/test_mig.py", "fault_of_one_instance"),
}
PROCESS_DAYS = {"mps-fault": ("tests/deviceplugin/test_modes.py", "fatal_fault")}
FLEET_TESTS = "tests/cluster/test_fleet.py"
_JOINED = "three_clusters_join or sixty_replicas"
FLEET_DAYS = {
    "cluster-lost": (FLEET_TESTS, f"{_JOINED} or lost_clusters_replicas"),
    "fleet-manager-killed": (FLEET_TESTS, f"{_JOINED} or killed_at_any_moment or no_card_holds_more"),
}
TESTED_DAYS = {**NODE_DAYS, **PROCESS_DAYS, **FLEET_DAYS}
DAY_S = 400


def main(argv: list[str] | None = None) -> int:
    """Run the days. The exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", default="", help=f"some of {', '.join((*DAYS, *TESTED_DAYS))}")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--express", action="store_true", help="with the express lane on all the time")
    args = parser.parse_args(argv)
    names = [name for name in args.days.split(",") if name] or [*DAYS, *TESTED_DAYS]
    if unknown := set(names) - {*DAYS, *TESTED_DAYS}:
        parser.error(f"--days: {', '.join(sorted(unknown))}: write some of {', '.join((*DAYS, *TESTED_DAYS))}")
    verdicts: list[Verdict] = []
    if here := [name for name in names if name in DAYS]:
        with a_world(SHORT if args.short else FULL, express=args.express) as world:
            for name in here:
                verdicts.append(live_through(world, name, DAYS[name]))
                print(verdicts[-1], flush=True)
    for name in names:
        if name in TESTED_DAYS:
            verdicts.append(tested_day(name))
            print(verdicts[-1], flush=True)
    result = {
        "days": len(verdicts),
        "bad": [each.name for each in verdicts if each.problems],
        "overcommitted": sum(each.overcommitted for each in verdicts),
        "lost": sum(each.lost for each in verdicts),
        "seconds": {each.name: round(each.seconds, 1) for each in verdicts},
    }
    print(json.dumps(result))
    return 1 if result["bad"] else 0


def tested_day(name: str) -> Verdict:
    """A day on a real kubelet or in several clusters. If no node can run here, its days fail with the reason."""
    start = time.monotonic()
    if name in NODE_DAYS and (reason := node_obstacle()):
        return Verdict(name, 0.0, {}, 0, 0, (f"no real node: {reason}",), 0)
    file, tests = TESTED_DAYS[name]
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:randomly", file, "-k", tests]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DAY_S, check=False)
    problems = () if done.returncode == 0 else (done.stdout[-600:],)
    facts = {"tests": tests, **times_in(done.stdout)}
    return Verdict(name, time.monotonic() - start, facts, 0, 0, problems, 1)


def times_in(output: str) -> dict[str, str]:
    """The line with times that a test prints, such as those from a fault to its evictions."""
    found = next((line.lstrip(".") for line in output.splitlines() if "from the signal" in line), "")
    return {"measured": found} if found else {}


if __name__ == "__main__":
    sys.exit(main())
