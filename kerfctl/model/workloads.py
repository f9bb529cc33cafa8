"""What `render` and `deploy` share: the flags of the workload, and its objects."""

import argparse
import re
from typing import Any

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
Json = dict[str, Any]


def add_wanted(parser: argparse.ArgumentParser) -> None:
    """Where the workload goes, what it loads, and where its weights come from."""
    parser.add_argument("--name", metavar="NAME", help="of the workload and the served model; default: the model's")
    parser.add_argument("--namespace", default="default", metavar="NS", help="default: default")
    parser.add_argument(
        "--weights", metavar="REF", help="what the engine loads: a repository, or a path in the container"
    )
    parser.add_argument("--claim", default="", metavar="PVC", help="mount this claim at /models")
    parser.add_argument("--cache", default="", metavar="DIR", help="or this folder of the node, for several pods")
    parser.add_argument(
        "--fetch", default="", metavar="HUB", help="huggingface or modelscope: an init container gets the weights"
    )
    parser.add_argument("--revision", default="", metavar="REV", help="of the weights; default: the hub's own")
    parser.add_argument("--exclude", action="append", metavar="PATTERN", help="files not to fetch; repeatable")
    parser.add_argument("--token-secret", default="", metavar="SECRET", help="its key `token` opens gated models")
    parser.add_argument("--endpoint", default="", metavar="URL", help="a mirror of the hub")
    parser.add_argument("--fetch-image", default="", metavar="IMAGE", help="of the init container")
    parser.add_argument("--image", default="", metavar="IMAGE", help="default: the engine's own of that version")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="default: 1")


def wanted_of(args: argparse.Namespace) -> Any:
    """The workload that the arguments describe. Raises WireError."""
    from kerf.sizing.manifest import Wanted
    from kerf.wire.errors import WireError
    from kerfctl.model.sources import gguf_name, plain_name, repository_of, row_name

    name = args.name or plain_name(args.model)
    if not NAME.fullmatch(name):
        raise WireError("name", name, "use at most 53 lower-case letters, digits and hyphens (--name)")
    if not 0 <= args.replicas <= 1000:
        raise WireError("replicas", args.replicas, "write a whole number from 0 to 1000")
    if args.claim and args.cache:
        raise WireError("cache", args.cache, "give --claim or --cache, not both")
    if args.cache and not args.cache.startswith("/"):
        raise WireError("cache", args.cache, "write an absolute path on the node")
    file = gguf_name(args.model)
    weights = args.weights or repository_of(args.model) or f"/models/{file or name}"
    fetch = _fetch(args, weights)
    if fetch:
        weights = f"/models/{name}/{file}" if file else f"/models/{name}"
    where = (args.namespace, args.image, args.replicas, args.claim, args.cache, fetch)
    return Wanted(name, weights, *where, serves=row_name(args.model))


def _fetch(args: argparse.Namespace, repository: str) -> Any:
    from kerf.sizing.fetch import Fetch, checked_fetch
    from kerf.wire.errors import WireError

    if not args.fetch:
        for flag in ("revision", "exclude", "endpoint", "fetch_image"):
            if getattr(args, flag):
                value = getattr(args, flag)
                raise WireError(f"--{flag.replace('_', '-')}", value, "add --fetch huggingface or modelscope")
        return None
    return checked_fetch(
        Fetch(
            args.fetch,
            repository,
            args.revision,
            args.fetch_image,
            args.token_secret,
            args.endpoint,
            tuple(args.exclude or ()),
        )
    )


def estimated(args: argparse.Namespace) -> Any:
    """The estimate for the arguments, with lessons where they are wanted. Raises CliError or WireError."""
    from kerf.sizing.estimate import estimate
    from kerfctl.model.arguments import ask_of
    from kerfctl.model.lessons import lessons_for, no_lessons
    from kerfctl.model.sources import load_row

    row, ask = load_row(args.model), ask_of(args)
    lessons = lessons_for(args, row.name)
    return estimate(row.model, ask, None if lessons is no_lessons else lessons(ask.card))


def objects_of(found: Any, wanted: Any) -> list[Json]:
    """The Deployment or LeaderWorkerSet, and its Service."""
    from kerf.sizing.manifest import service, workload

    return [workload(found, wanted), service(wanted, found)]
