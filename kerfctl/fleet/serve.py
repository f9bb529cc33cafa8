"""`kerf fleet run`: the manager as one process."""

import argparse
import signal
import threading

from kerf.config.load import PolicyFile
from kerf.config.prices import PriceFile
from kerf.kube.leadership import ALONE
from kerf.obs.log import start_logging
from kerfctl.fleet.connect import manager_of
from scheduler.fleet.wiring import build_manager


def serve(args: argparse.Namespace) -> int:
    """Manage until SIGTERM or SIGINT. What runs in the clusters goes on afterwards."""
    start_logging(args.log_level)
    kube = manager_of(args)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    manager = build_manager(kube, ALONE, PolicyFile(args.policy), PriceFile(args.prices), args.vendors, args.namespace)
    manager.run(stop)
    return 0
