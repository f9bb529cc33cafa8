"""`kerf ledger`: make a limiter's ledger by hand, and see what a container uses of its slice."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kerf.wire.errors import WireError
from kerf.wire.limiter import POLICIES, CardLimit, LedgerSpec, LedgerView
from kerfctl.errors import CliError
from kerfctl.report import Sheet, say

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

_MIB = 2**20
T = TypeVar("T")


def add_parser(verbs: "Verbs") -> None:
    """`ledger create`, `ledger arbiter` and `ledger show`."""
    parser = verbs.add_parser("ledger", help="make or read a limiter's ledger (no Kubernetes needed)")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    create = actions.add_parser("create", help="a fresh ledger: LD_PRELOAD=libkerf.so KERF_LEDGER=FILE program")
    create.add_argument("file", type=Path)
    create.add_argument(
        "--card",
        action="append",
        required=True,
        metavar="CARD[:memory=MIB][,cores=PERCENT][,arbiter=FILE]",
        help="a card by UUID, or by its number as the program sees it; say it once per card",
    )
    create.add_argument(
        "--policy", choices=POLICIES, default="cap", help="cap: never more; weight: idle time is shared"
    )
    create.add_argument("--priority", type=int, choices=(0, 1), default=0, help="0 high, 1 low (policy priority)")
    create.set_defaults(run=_create)

    arbiter = actions.add_parser("arbiter", help="the file by which containers on one card take turns")
    arbiter.add_argument("file", type=Path)
    arbiter.set_defaults(run=_arbiter)

    show = actions.add_parser("show", help="the slice, and what each process uses of it now")
    show.add_argument("file", type=Path)
    show.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    show.set_defaults(run=_show)


def run(args: argparse.Namespace) -> int:
    """Run the action that was named."""
    return int(args.run(args))


def parse_card(text: str) -> CardLimit:
    """A card's slice from `CARD[:memory=MIB][,cores=PERCENT][,arbiter=FILE]`. Raises WireError."""
    name, _, rest = text.partition(":")
    values: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in {"memory", "cores", "arbiter"} or not equals or key in values:
            raise WireError("--card", text, "write CARD:memory=MIB,cores=PERCENT, each at most once")
        values[key] = value
    memory = _number(text, values.get("memory"))
    return CardLimit(
        uuid=name,
        memory_bytes=None if memory is None else memory * _MIB,
        cores=_number(text, values.get("cores")),
        arbiter=values.get("arbiter", ""),
    )


def _number(text: str, value: str | None) -> int | None:
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise WireError("--card", text, "write whole numbers: memory in MiB, cores in percent")
    return int(value)


def _create(args: argparse.Namespace) -> int:
    from kerf.probes.ledger import create_ledger

    cards = tuple(parse_card(text) for text in args.card)
    with_failure(lambda: create_ledger(args.file, LedgerSpec(cards, args.policy, args.priority)), args.file)
    return 0


def _arbiter(args: argparse.Namespace) -> int:
    from kerf.probes.ledger import create_arbiter

    with_failure(lambda: create_arbiter(args.file), args.file)
    return 0


def _show(args: argparse.Namespace) -> int:
    from kerf.probes.ledger import read_ledger

    view = with_failure(lambda: read_ledger(args.file), args.file)
    if args.json:
        print(json.dumps(asdict(view), indent=1))
    else:
        print_view(view)
    return 0


def with_failure(action: Callable[[], T], file: Path) -> T:
    """What `action` returns; a file that cannot be used ends the verb with one sentence."""
    try:
        return action()
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}") from error


def _mib(count: int | None) -> str:
    return "no limit" if count is None else f"{count / _MIB:,.0f}"


def print_view(view: LedgerView) -> None:
    """Two tables, and what could not be enforced."""
    numbers = (">limit", ">in use", ">peak", ">refused", ">cores", ">GPU time", ">held back")
    cards = Sheet(f"Slices (policy {view.spec.policy}, MiB)", ("card", *numbers))
    for use in view.cards:
        cores = "no limit" if use.limit.cores is None else f"{use.limit.cores} %"
        cards.add(
            use.limit.uuid,
            _mib(use.limit.memory_bytes),
            _mib(use.charged_bytes),
            _mib(use.peak_bytes),
            str(use.denied),
            cores,
            f"{use.busy_ns / 1e9:,.1f} s",
            f"{use.throttled_ns / 1e9:,.1f} s",
        )
    cards.print()
    columns = ("pid", "command", "state", "memory", "kinds", "GPU time")
    processes = Sheet("Processes (MiB per card)", columns)
    for process in view.processes:
        processes.add(
            str(process.pid),
            process.command,
            "alive" if process.alive else "dead, not yet cleaned up",
            " + ".join(_mib(count) for count in process.bytes_by_card),
            ", ".join(f"{kind} {_mib(count)}" for kind, count in process.bytes_by_kind.items()),
            f"{process.busy_ns / 1e9:,.1f} s",
        )
    processes.print()
    for event, count in view.events.items():
        say(f"not enforced or worked around: {event} x {count} (docs/limits.md)")
