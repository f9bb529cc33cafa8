"""The words of `kerf export`. Light: the verb imports what it needs."""

import argparse
from typing import TYPE_CHECKING

from kerf.values.gateways import Gateway, Per
from kerfctl.arguments import add_cluster_arguments, add_prices_argument

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`export` and its verbs."""
    parser = verbs.add_parser("export", help="what others read: objects of a gateway in front of the models")
    inner = parser.add_subparsers(metavar="gateway", required=True)
    words = "objects by which a gateway finds the models, weighs their replicas and knows their price"
    gateway = inner.add_parser("gateway", help=words, description=f"{words}. Prints YAML for kubectl apply.")
    add_cluster_arguments(gateway)
    add_prices_argument(gateway)
    gateway.add_argument("--to", required=True, choices=[each.value for each in Gateway], help="the gateway")
    gateway.add_argument("--file", action="append", metavar="FILE", help="read these instead of a cluster; - is stdin")
    add_choice(gateway)
    gateway.add_argument("--into", metavar="NAMESPACE", help="where the objects go; default: default")
    gateway.add_argument("--gateway", metavar="[NAMESPACE/]NAME", help="Envoy's Gateway, for envoy-ai-gateway")
    gateway.add_argument("--picker", metavar="SERVICE:PORT", help="the endpoint picker, for inferencepool")
    form = gateway.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one List as JSON")
    form.add_argument("--plain", action="store_true", help="with --to litellm: its config.yaml instead of a ConfigMap")
    gateway.set_defaults(run=_gateway)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Which pods, and in which way."""
    parser.add_argument(
        "--namespace", action="append", metavar="NAME",
        help="serve this namespace's models under their own names; repeat it. Without: all, as NAMESPACE/MODEL",
    )  # fmt: skip
    parser.add_argument("--pods", action="append", metavar="KEY=VALUE", help="a label that a pod must have; repeat it")
    parser.add_argument(
        "--per", choices=[each.value for each in Per], help="a target for each replica (default) or for each Service"
    )


def _gateway(args: argparse.Namespace) -> int:
    from kerfctl.export.gateway import run_gateway

    return run_gateway(args)
