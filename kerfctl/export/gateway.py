"""`kerf export gateway`: read pods, Services and measured prices, and print a gateway's objects."""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import yaml

from kerf.catalogue import shipped
from kerf.config.load import read_policy
from kerf.config.prices import read_prices
from kerf.gateways.litellm import FILE
from kerf.gateways.render import Rendered, Seen, render
from kerf.gateways.replicas import Fleet, mistaken
from kerf.kube import paths
from kerf.metering.tokenprice import newest_priced
from kerf.values.gateways import Gateway, GatewaySettings, Per
from kerf.values.policy import SchedulingPolicy
from kerf.values.usage import HOUR_MS, TokenPrice
from kerf.wire.errors import WireError
from kerf.wire.gateways import parse_gateways
from kerf.wire.json import Json
from kerf.wire.objects import parse_node
from kerf.wire.usage import DAY, PATH, day_text, parse_usage
from kerf.wire.usage import KIND as TENANT_USAGE
from kerfctl import cluster
from kerfctl.documents import read_documents
from kerfctl.errors import CliError
from kerfctl.report import say, warn

BACK_MS = 48 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of a cluster or of files."""

    nodes: Sequence[Json]
    pods: Sequence[Json]
    services: Sequence[Json]
    usages: Iterable[Json]


def run_gateway(args: argparse.Namespace) -> int:
    """Print the objects. Exit status 1 when a model was left out or there is none."""
    policy = read_policy(args.policy)
    settings = _settings(args, policy)
    read = _of_files(args.file) if args.file else _of_cluster(args, settings.per)
    nodes = [parse_node(node, args.vendors) for node in read.nodes]
    fleet = Fleet(nodes, args.vendors, read_prices(args.prices), shipped())
    found = render(Seen(read.pods, read.services, fleet, _prices(read.usages)), settings, labelled=False)
    _print(found, args)
    left_out = [*found.left_out, *_mistaken(read.pods, settings)]
    warn(*(f"kerf: {line}" for line in (*left_out, *found.plan.mixed)))
    warn(*(f"kerf: {name}: no price was measured yet, so its tokens are free for LiteLLM" for name in found.unpriced))
    if not found.plan.routes:
        warn(
            "kerf: no pod serves a model: is vLLM or SGLang among its arguments, "
            "or kerf.dev/serving-port among its annotations?"
        )
    return 1 if left_out or not found.plan.routes else 0


def _mistaken(pods: Iterable[Json], settings: GatewaySettings) -> list[str]:
    """Pods of the served namespaces whose annotations cannot be meant so."""
    wanted = settings.namespaces
    return [text for namespace, text in mistaken(pods, shipped()) if not wanted or namespace in wanted]


def _settings(args: argparse.Namespace, policy: SchedulingPolicy) -> GatewaySettings:
    """What the flags say; where there is no flag, what the policy says. Raises CliError that names the flag."""
    if args.plain and args.to != Gateway.LITELLM:
        raise CliError(f"--plain: only --to litellm has a configuration of its own; {args.to} reads objects")
    words = {
        "to": [args.to],
        "namespace": args.into,
        "namespaces": args.namespace,
        "pods": _labels(args.pods or ()),
        "per": args.per,
        "picker": args.picker,
        "gateway": args.gateway,
    }
    of = policy.gateways
    try:
        given = {key: value for key, value in words.items() if value}
        return parse_gateways(given, "-", replace(of, namespace=of.namespace or "default"))
    except WireError as error:
        field = error.field.removeprefix("-.")
        name, bracket, rest = field.partition("[")
        flag = {"namespace": "into", "namespaces": "namespace"}.get(name, name) + bracket + rest
        raise CliError(f"--{flag} {error.value}: {error.fix}") from error


def _labels(pairs: Iterable[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise CliError(f"--pods {pair}: write KEY=VALUE")
        found[key] = value
    return found


def _of_files(files: Sequence[str]) -> Read:
    documents = read_documents(files)
    return Read(documents.nodes, documents.pods, documents.of("Service"), documents.of(TENANT_USAGE))


def _of_cluster(args: argparse.Namespace, per: Per) -> Read:
    kube = cluster.connect_to(args)
    now = time.time_ns() // 1_000_000
    days = ",".join(day_text(now - back) for back in range(0, BACK_MS + 1, 24 * HOUR_MS))
    usages = cluster.list_or_none(kube, PATH, TENANT_USAGE, labelSelector=f"{DAY} in ({days})")
    services = cluster.list_all(kube, paths.SERVICES, "Service") if per is Per.SERVICE else []
    nodes = cluster.list_all(kube, paths.NODES, "Node")
    return Read(nodes, cluster.list_all(kube, paths.PODS, "Pod"), services, usages or [])


def _prices(usages: Iterable[Json]) -> tuple[TokenPrice, ...]:
    """The newest that were measured."""
    found = []
    for item in usages:
        try:
            found.append(parse_usage(item))
        except WireError as error:
            warn(f"kerf: a TenantUsage is left out: {error}")
    newest = newest_priced(found)
    return newest.prices if newest else ()


def _print(found: Rendered, args: argparse.Namespace) -> None:
    if args.json:
        say(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(found.objects)}, indent=2))
    elif args.plain:
        say(yaml.safe_dump(json.loads(found.objects[0]["data"][FILE]), sort_keys=False).rstrip("\n"))
    else:
        say("---\n".join(yaml.safe_dump(item, sort_keys=False) for item in found.objects).rstrip("\n"))
