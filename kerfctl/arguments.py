"""Arguments that several verbs share. Light: parsing must not import a daemon."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (argparse has no public name for it)


def add_scheduler_argument(parser: argparse.ArgumentParser) -> None:
    """Which pods are Kerf's."""
    parser.add_argument("--scheduler-name", default="kerf-scheduler", help="schedulerName of Kerf's pods")


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Which cluster, which policy."""
    default = os.environ.get("KUBECONFIG")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", default=default, help="default: $KUBECONFIG, else ~/.kube/config"
    )
    parser.add_argument("--policy", metavar="FILE", help="the scheduler's SchedulingPolicy; default: Kerf's own")


def add_prices_argument(parser: argparse.ArgumentParser) -> None:
    """What cards cost."""
    parser.add_argument("--prices", metavar="FILE", help="your price list; default: the shipped one")
