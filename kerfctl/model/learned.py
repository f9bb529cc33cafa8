"""`kerf model learned`: what servers of models were seen to hold, with how many taught it."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from kerfctl.model.lessons import add_source

if TYPE_CHECKING:
    from kerf.values.learned import Learned, Lesson
    from kerfctl.arguments import Verbs


def add_parser(verbs: "Verbs") -> None:
    """`learned`."""
    parser = verbs.add_parser("learned", help="what servers of models were seen to hold, and who taught it")
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="a name of the catalogue; default: all")
    add_source(parser, kubeconfig=True)
    parser.add_argument("--forget", action="store_true", help="drop the lessons about this model")
    parser.add_argument("--json", action="store_true", help="a JSON list instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read and print, or forget. Exits 1 where a model that is named taught nothing."""
    from kerf.catalogue import shipped
    from kerf.sizing.taught import need_of
    from kerf.wire.learned import lesson_object
    from kerfctl.errors import CliError
    from kerfctl.model.lessons import read_learned

    row = shipped().find(args.model)
    name = (row.name if row else args.model).lower()
    learned = read_learned(args)
    found = [lesson for lesson in learned.lessons if name in ("", lesson.setup.model.lower())]
    if args.forget:
        if not name or args.learned_from:
            raise CliError("--forget: name one MODEL of the cluster's lessons")
        return _forget(args, learned, found)
    if args.json:
        print(json.dumps([{**lesson_object(lesson), "need_mib": need_of(lesson)} for lesson in found]))
    else:
        _print(found)
    return 0 if found or not name else 1


def _forget(args: argparse.Namespace, learned: "Learned", gone: list["Lesson"]) -> int:
    from dataclasses import replace

    from kerf.kube.errors import KubeError
    from kerf.wire.learned import config_map, path_of
    from kerfctl.cluster import connect_to
    from kerfctl.errors import CliError
    from kerfctl.report import say

    left = replace(learned, lessons=tuple(lesson for lesson in learned.lessons if lesson not in gone))
    query = {"fieldManager": "kerf-learning", "force": "true"}
    try:
        connect_to(args).patch(path_of(args.learned_in), config_map(left, args.learned_in), "apply", query)
    except KubeError as error:
        raise CliError(f"ConfigMap {args.learned_in}/kerf-learned: {error}") from error
    say(f"forgot {len(gone)} lessons; servers that run, or ended within a week, teach again")
    return 0


def _print(found: list["Lesson"]) -> None:
    from kerf.sizing.taught import need_of
    from kerfctl.report import Sheet, say

    if not found:
        say("nothing was learned yet")
        return
    numbers = (">requests", ">longest", ">held MiB", ">need MiB", ">cache %", ">pods", ">hours")
    sheet = Sheet("Learned, beside weights and cache", ("model", "engine", "card", "tp x pp", *numbers, "remarks"))
    for lesson in found:
        setup = lesson.setup
        sheet.add(
            setup.model,
            f"{setup.runtime} {setup.release}",
            setup.card,
            f"{setup.tp} x {setup.pp}",
            f"{setup.concurrency:,}",
            f"{lesson.max_len:,}",
            f"{lesson.beside_mib:,}" if lesson.beside_mib else "-",
            f"{need_of(lesson):,}",
            "-" if lesson.kv_percent is None else str(lesson.kv_percent),
            f"{lesson.all_pods:,}",
            f"{lesson.all_hours:,.0f}",
            _remarks(lesson),
        )
    sheet.print()


def _remarks(lesson: Any) -> str:
    setup = lesson.setup
    parts = [f"most: {lesson.pod}, {lesson.peak_mib:,} of {lesson.slice_mib:,} MiB"] if lesson.pod else []
    parts += ["memory was refused"] if lesson.refused_mib else []
    parts += ["ended with an error"] if lesson.failed_mib else []
    parts += [setup.extra] if setup.extra else []
    return "; ".join(parts)
