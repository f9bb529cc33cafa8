"""`kerf model publish`: add a model to the cluster's catalogue, so that pods can name it."""

import argparse
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kerfctl.model.arguments import LOCAL

if TYPE_CHECKING:
    from kerfctl.arguments import Verbs

MOST_BYTES = 900_000
"""A ConfigMap holds 1 MiB, metadata included."""
NAMES = re.compile(r"[a-z0-9]([-a-z0-9.]{0,51}[a-z0-9])?")


def add_parser(verbs: "Verbs") -> None:
    """`publish`."""
    parser = verbs.add_parser("publish", help="add a model to the cluster's catalogue: pods then name it")
    parser.add_argument("model", metavar="MODEL", help=LOCAL)
    parser.add_argument("--name", default="", metavar="NAME", help="by which pods name it; default: the model's")
    parser.add_argument("--repository", default="", metavar="REPO", help="what the engine loads by default")
    parser.add_argument("--namespace", default="kerf-system", metavar="NS", help="Kerf's own; default: kerf-system")
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: ~/.kube/config")
    parser.add_argument("--dry-run", action="store_true", help="print the ConfigMap instead of writing it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, check, write."""
    import yaml

    from kerf.kube.errors import KubeError
    from kerf.sizing.catalogue import render_row
    from kerfctl.cluster import connect_to
    from kerfctl.errors import CliError
    from kerfctl.model.sources import load_row, plain_name
    from kerfctl.report import say

    row = load_row(args.model)
    name = args.name or row.name or plain_name(args.model)
    if not NAMES.fullmatch(name):
        raise CliError(f"--name {name}: use at most 53 lower-case letters, digits, dots and hyphens")
    _ = row.model  # refuses a row of no use
    row = replace(row, name=name, repository=args.repository or row.repository)
    item = _config_map(render_row(row), name, args.namespace)
    if args.dry_run:
        say(yaml.safe_dump(item, sort_keys=False, width=120).rstrip())
        return 0
    path = f"/api/v1/namespaces/{args.namespace}/configmaps/{item['metadata']['name']}"
    try:
        connect_to(args).patch(path, item, "apply", {"fieldManager": "kerf-cli", "force": "true"})
    except KubeError as error:
        raise CliError(f"ConfigMap {args.namespace}/{item['metadata']['name']}: {error}") from error
    say(f"{name} is in the catalogue: write `kerf.dev/model: {name};max-len=8192;concurrency=4` on a pod")
    return 0


def _config_map(row: dict[str, Any], name: str, namespace: str) -> dict[str, Any]:
    from kerfctl.errors import CliError

    text = json.dumps(row, indent=1)
    if len(text.encode()) > MOST_BYTES:
        raise CliError(f"{name}: its config has {len(text.encode()):,} bytes; a ConfigMap holds {MOST_BYTES:,}")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"kerf-model-{name}",
            "namespace": namespace,
            "labels": {"kerf.dev/catalogue": "true", "app.kubernetes.io/part-of": "kerf"},
        },
        "data": {f"{name}.json": text},
    }
