"""The words of `kerf cluster` and `kerf fleet`."""

import argparse
import os
from typing import TYPE_CHECKING

from kerf.values.supply import Supply
from kerfctl.arguments import add_prices_argument

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

NAMESPACE = "kerf-system"


def add_parser(verbs: "Verbs") -> None:
    """`cluster` and `fleet`."""
    cluster = verbs.add_parser("cluster", help="clusters of the fleet: add, list, plan, doctor, remove")
    actions = cluster.add_subparsers(metavar="ACTION", required=True)
    _add(actions)
    listing = actions.add_parser("list", help="the clusters, their phase and their cards")
    _manager(listing)
    listing.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    listing.set_defaults(run=run_list)
    planning = actions.add_parser("plan", help="where the replicas of FleetWorkloads are, and why some have no place")
    planning.add_argument("workload", metavar="WORKLOAD", nargs="?", help="one of them: NAME, or NAMESPACE/NAME")
    _manager(planning)
    planning.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    planning.set_defaults(run=run_plan)
    doctor = actions.add_parser("doctor", help="check a cluster's credential, rights, Kerf and state")
    doctor.add_argument("name", metavar="NAME")
    _manager(doctor)
    doctor.set_defaults(run=run_doctor)
    remove = actions.add_parser("remove", help="drain a cluster, wait until its replicas run elsewhere, forget it")
    remove.add_argument("name", metavar="NAME")
    remove.add_argument("--now", action="store_true", help="do not wait: its replicas are placed elsewhere afterwards")
    remove.add_argument("--timeout", type=float, default=600.0, metavar="S", help="how long to wait for the drain")
    _manager(remove)
    remove.set_defaults(run=run_remove)
    fleet = verbs.add_parser("fleet", help="manage the fleet from this process")
    running = fleet.add_subparsers(metavar="ACTION", required=True).add_parser("run", help="run until stopped")
    _manager(running)
    running.add_argument("--policy", metavar="FILE", help="SchedulingPolicy; read again when it changes")
    add_prices_argument(running)
    running.add_argument("--log-level", default="info", help="debug, info, warning or error")
    running.set_defaults(run=run_fleet)


def _add(actions: "Verbs") -> None:
    add = actions.add_parser(
        "add",
        help="join a cluster; every step can be repeated",
        description="Join a cluster to the fleet. Each step says what it did; a second run finishes what is missing.",
    )
    add.add_argument("name", metavar="NAME")
    add.add_argument("--kubeconfig", metavar="FILE", required=True, help="of the cluster that joins, as administrator")
    add.add_argument("--context", metavar="NAME", help="of that kubeconfig (default: its current one)")
    add.add_argument("--region", default="", help="where it is, in the words of the price list")
    add.add_argument("--supply", choices=[each.value for each in Supply], default="owned", help="decides its prices")
    add.add_argument("--install", action="store_true", help="install or upgrade Kerf's chart there, with helm")
    add.add_argument(
        "--chart", metavar="DIR", default="charts/kerf", help="the chart to install (default: %(default)s)"
    )
    add.add_argument(
        "--registry",
        metavar="HOST",
        help="where all images are, kube-scheduler's too, for clusters without the internet",
    )
    add.add_argument("--values", metavar="FILE", action="append", default=[], help="values for the chart; repeats")
    add.add_argument("--helm", metavar="PROGRAM", default="helm", help="the helm to run (default: %(default)s)")
    add.add_argument(
        "--gpu-operator", metavar="CHART", help="install NVIDIA's GPU Operator from this chart, its own plugin off"
    )
    add.add_argument(
        "--gpu-operator-values", metavar="FILE", action="append", default=[], help="values for that chart; repeats"
    )
    _manager(add)
    add.set_defaults(run=run_add)


def _manager(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("KUBECONFIG")
    parser.add_argument(
        "--manager",
        metavar="FILE",
        default=default,
        help="the manager cluster (default: $KUBECONFIG, else ~/.kube/config)",
    )
    parser.add_argument("--manager-context", metavar="NAME", help="of that kubeconfig (default: its current one)")
    parser.add_argument("--namespace", default=NAMESPACE, help="of Kerf, on both sides (default: %(default)s)")


def run_add(args: argparse.Namespace) -> int:
    """Join a cluster."""
    from kerfctl.fleet.join import add

    return add(args)


def run_list(args: argparse.Namespace) -> int:
    """List the clusters."""
    from kerfctl.fleet.show import list_clusters

    return list_clusters(args)


def run_plan(args: argparse.Namespace) -> int:
    """What the manager has decided."""
    from kerfctl.fleet.planned import plan

    return plan(args)


def run_doctor(args: argparse.Namespace) -> int:
    """Check a cluster."""
    from kerfctl.fleet.show import doctor

    return doctor(args)


def run_remove(args: argparse.Namespace) -> int:
    """Let a cluster go."""
    from kerfctl.fleet.leave import remove

    return remove(args)


def run_fleet(args: argparse.Namespace) -> int:
    """Manage the fleet from this process."""
    from kerfctl.fleet.serve import serve

    return serve(args)
