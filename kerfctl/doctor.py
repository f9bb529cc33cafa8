"""`kerf doctor`: looks at a live cluster and says what is wrong, each time with the fix."""

import argparse
import json
from typing import TYPE_CHECKING

from kerfctl.arguments import add_cluster_arguments, add_scheduler_argument
from kerfctl.errors import CliError
from kerfctl.report import say

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs
    from kerfctl.diagnosis.dump import Finding


def add_parser(verbs: "Verbs") -> None:
    """`doctor`."""
    parser = verbs.add_parser("doctor", help="check a cluster and say what is wrong, and what to do")
    add_cluster_arguments(parser)
    parser.add_argument("-n", "--namespace", help="where Kerf is installed; default: where its webhook's Service is")
    add_scheduler_argument(parser)
    parser.add_argument("--cert-secret", default="kerf-webhook-cert", help="Secret with the webhook's certificate")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look and report. Exit status 1 when something is wrong or was not looked at; other warnings do not count."""
    from kerf.config.load import read_policy
    from kerf.kube.errors import KubeError
    from kerfctl.cluster import connect_to
    from kerfctl.diagnosis import cards, claims, control, crds, pods
    from kerfctl.diagnosis.dump import Finding, Level
    from kerfctl.diagnosis.gather import Wanted, gather

    kube, policy = connect_to(args), read_policy(args.policy)
    wanted = Wanted(args.vendors, policy, args.scheduler_name, args.cert_secret, args.namespace)
    try:
        dump = gather(kube, wanted)
    except KubeError as error:
        raise CliError(f"the API server cannot be asked: {error}; see --kubeconfig and the network") from error
    checks = {**control.CHECKS, **claims.CHECKS, **crds.CHECKS, **cards.CHECKS, **pods.CHECKS}
    found: dict[str, list[Finding]] = {name: list(check(dump)) for name, check in checks.items()}
    wrong = sum(finding.level is Level.WRONG for findings in found.values() for finding in findings)
    left_out = len(dump.denied) + len(dump.unread)
    if args.json:
        listed = {name: [_json(finding) for finding in findings] for name, findings in found.items()}
        print(json.dumps({"v": 1, "wrong": wrong, "left_out": left_out, "checks": listed}))
        return int(wrong + left_out > 0)
    for name, findings in found.items():
        say(f"{'✓' if not findings else ' '} {name}")
        for finding in findings:
            say(f"  {'✗' if finding.level is Level.WRONG else '!'} {finding.what}\n      {finding.fix}")
    say(f"{wrong} things are wrong" if wrong != 1 else "1 thing is wrong")
    if left_out:
        say("not everything was looked at, see rights")
    return int(wrong + left_out > 0)


def _json(finding: "Finding") -> dict[str, str]:
    return {"level": finding.level.value, "what": finding.what, "fix": finding.fix}
