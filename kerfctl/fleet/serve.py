"""`kerf fleet run`: the manager as one process."""

import argparse
import signal
import threading
from pathlib import Path

from kerf.config.load import PolicyFile
from kerf.config.prices import PriceFile
from kerf.kube.client import connect
from kerf.kube.errors import KubeError
from kerf.kube.leadership import ALONE
from kerf.obs.log import start_logging
from kerfctl.errors import CliError
from scheduler.fleet.wiring import build_manager


def serve(args: argparse.Namespace) -> int:
    """Manage until SIGTERM or SIGINT. What runs in the clusters goes on afterwards."""
    start_logging(args.log_level)
    try:
        kube = connect(args.manager or str(Path("~/.kube/config").expanduser()), context=args.manager_context)
    except KubeError as error:
        raise CliError(str(error)) from error
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    manager = build_manager(kube, ALONE, PolicyFile(args.policy), PriceFile(args.prices), args.vendors, args.namespace)
    manager.run(stop)
    return 0
