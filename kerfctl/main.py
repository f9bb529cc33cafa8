"""The `kerf` command: reads the words, calls a verb, turns every expected failure into one line and a non-zero exit."""

import argparse
import os
import sys
from collections.abc import Sequence

from kerf.config.vendors import HELP, with_described
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from kerfctl import demo, doctor, explain, faults, inventory, ledger, repack, scale, simulate, snapshot, top
from kerfctl.bill import command as bill
from kerfctl.errors import CliError
from kerfctl.export import command as export
from kerfctl.fleet import command as fleet
from kerfctl.model import command as model
from kerfctl.price import command as price
from kerfctl.quota import command as quota
from kerfctl.report import warn
from kerfctl.ui import command as ui

VERBS = (
    demo,
    simulate,
    explain,
    inventory,
    snapshot,
    quota,
    repack,
    top,
    doctor,
    ledger,
    model,
    bill,
    price,
    export,
    scale,
    faults,
    fleet,
    ui,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status is 0, 1 for a "no" or a failure, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="kerf", description="Fractional GPUs for inference on Kubernetes.")
    parser.add_argument("--vendors", action="append", default=_described_by_default(), metavar="FILE", help=HELP)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(verbs)
    args = parser.parse_args(argv)
    try:
        args.vendors = with_described(VENDORS, args.vendors)
        return int(args.run(args))
    except (WireError, CliError) as error:
        warn(f"kerf: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `kerf … | head`: the reader has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _described_by_default() -> list[str]:
    return [path for path in os.environ.get("KERF_VENDORS", "").split(",") if path]
