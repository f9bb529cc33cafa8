"""`kerf faults`: what Kerf makes of a kernel log or of an inference server, and going on after a pause."""

import argparse
import json
from typing import TYPE_CHECKING

from kerfctl.arguments import add_cluster_arguments

if TYPE_CHECKING:
    from kerf.faults.windows import FaultEvent
    from kerfctl.arguments import Verbs

ABOUT = "Faults of cards: what drivers report, and what it means. docs/recovery.md explains the verdicts."


def add_parser(verbs: "Verbs") -> None:
    """`faults` and its verb."""
    parser = verbs.add_parser("faults", help="what a kernel log or a server says of cards; let recovery go on")
    inner = parser.add_subparsers(metavar="replay|server|resume", required=True)
    replay = inner.add_parser("replay", help="one line a card, code and minute of a kernel log", description=ABOUT)
    replay.add_argument(
        "file",
        metavar="FILE",
        help="text of /dev/kmsg, dmesg or syslog, also as gzip, bzip2 or xz; - is standard input",
    )
    replay.add_argument("--policy", metavar="FILE", help="the SchedulingPolicy, for verdicts of its own on codes")
    replay.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    replay.set_defaults(run=run_replay)
    about = "what Kerf would report of an inference server that it watches: stalls, and errors in its log"
    server = inner.add_parser("server", help="signs of a fault in an inference server", description=about)
    server.add_argument("url", metavar="URL", nargs="?", help="the server, http://HOST:PORT, with /health and /metrics")
    server.add_argument("--seconds", type=int, default=0, metavar="N", help="look again for so long; a stall takes 60")
    server.add_argument("--log", metavar="FILE", help="its log; - is standard input")
    server.set_defaults(run=run_server)
    about = "let recovery go on where the breaker stopped it: what failed on these nodes until now was no common cause"
    resume = inner.add_parser("resume", help="let evictions go on after the breaker stopped them", description=about)
    resume.add_argument("nodes", metavar="NODE", nargs="+")
    add_cluster_arguments(resume)
    resume.set_defaults(run=run_resume)


def run_replay(args: argparse.Namespace) -> int:
    """Print the events, as under the policy `recover`. A log without faults is an empty list."""
    from kerf.config.load import read_policy
    from kerf.faults.replay import replay
    from kerf.faults.xid import XIDS
    from kerfctl.log_files import read_lines

    overrides = read_policy(args.policy).recovery.verdicts
    found = replay(read_lines(args.file), XIDS, overrides)
    if args.json:
        print(json.dumps([_json(event) for event in found], indent=2))
    else:
        _print_table(found)
    return 0


def run_server(args: argparse.Namespace) -> int:
    """Print what is found. Exit status 1 where there is a sign of a fault, or the server cannot be watched."""
    from kerfctl.errors import CliError
    from kerfctl.server_signs import in_log, in_pages

    if not args.url and not args.log:
        raise CliError("write the server's URL, or --log FILE, or both")
    signs = in_log(args.log) if args.log else 0
    return int(signs + (in_pages(args.url, args.seconds) if args.url else 0) > 0)


def run_resume(args: argparse.Namespace) -> int:
    """Annotate the nodes. Exit status 1 where a node is not there or may not be written."""
    import time

    from kerf.kube import paths
    from kerf.kube.errors import KubeError
    from kerf.wire.annotations import RESUME
    from kerfctl.cluster import connect_to
    from kerfctl.report import say, warn

    kube, refused = connect_to(args), 0
    for node in args.nodes:
        try:
            kube.patch(paths.node(node), {"metadata": {"annotations": {RESUME: str(int(time.time()))}}})
            say(f"node {node}: recovery goes on")
        except KubeError as error:
            refused += 1
            warn(f"node {node}: {error}")
    return int(refused > 0)


def _print_table(found: tuple["FaultEvent", ...]) -> None:
    from kerf.faults.xid import XIDS
    from kerfctl.report import Sheet, say

    if not found:
        say("no fault of a card is in this log")
        return
    sheet = Sheet("Faults", ("card", ">code", "meaning", "verdict", ">count", "text"))
    for event in found:
        name = XIDS.name_of(event.code) or "not known to Kerf"
        sheet.add(event.card, str(event.code), name, event.verdict.value, str(event.count), event.text)
    sheet.print()


def _json(event: "FaultEvent") -> dict[str, object]:
    return {
        "card": event.card,
        "code": event.code,
        "verdict": event.verdict.value,
        "count": event.count,
        "text": event.text,
    }
