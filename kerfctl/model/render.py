"""`kerf model render`: the pod for a model, as YAML."""

import argparse
import re
from typing import TYPE_CHECKING

from kerfctl.model.arguments import add_ask, add_card, ask_of

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`render`."""
    parser = verbs.add_parser("render", help="a Deployment or LeaderWorkerSet with the slice and the arguments for it")
    add_ask(parser)
    add_card(parser)
    parser.add_argument("--name", metavar="NAME", help="of the workload and the served model; default: the model's")
    parser.add_argument("--namespace", default="default", metavar="NS", help="default: default")
    parser.add_argument(
        "--weights", metavar="REF", help="what the engine loads: a repository or a path in the container"
    )
    parser.add_argument("--claim", default="", metavar="PVC", help="mount this claim at /models, read-only")
    parser.add_argument("--image", default="", metavar="IMAGE", help="default: the engine's own of that version")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="default: 1")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, render, print."""
    import yaml

    from kerf.sizing.estimate import estimate
    from kerf.sizing.manifest import Wanted, workload
    from kerf.wire.errors import WireError
    from kerfctl.model.sources import load_model, plain_name, repository_of
    from kerfctl.report import say

    found = estimate(load_model(args.model), ask_of(args))
    name = args.name or plain_name(args.model)
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?", name):
        raise WireError("name", name, "use at most 53 lower-case letters, digits and hyphens (--name)")
    if not 0 <= args.replicas <= 1000:
        raise WireError("replicas", args.replicas, "write a whole number from 0 to 1000")
    weights = args.weights or repository_of(args.model) or f"/models/{name}"
    wanted = Wanted(name, weights, args.namespace, args.image, args.replicas, args.claim)
    say(yaml.safe_dump(workload(found, wanted), sort_keys=False, width=120).rstrip())
    return 0
