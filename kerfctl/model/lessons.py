"""What the cluster learned, for the verbs that size a model: the flags, and the lessons about one model."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerf.values.learned import Learned, Taught

Lessons = Callable[[str], "Taught | None"]
"""The lessons about a model, by the card."""
OWN = "kerf-system"


def add_learned(parser: argparse.ArgumentParser, *, kubeconfig: bool) -> None:
    """Whether and where lessons come from."""
    parser.add_argument(
        "--learned", action="store_true", help="correct the estimate by what servers in the cluster held"
    )
    add_source(parser, kubeconfig=kubeconfig)


def add_source(parser: argparse.ArgumentParser, *, kubeconfig: bool) -> None:
    """Where lessons are."""
    parser.add_argument("--learned-in", default=OWN, metavar="NS", help=f"Kerf's own namespace; default: {OWN}")
    parser.add_argument("--learned-from", default="", metavar="FILE", help="a saved ConfigMap instead of the cluster's")
    if kubeconfig:
        parser.add_argument("--kubeconfig", metavar="FILE", help="default: ~/.kube/config")


def no_lessons(_: str) -> "Taught | None":
    """The estimate as it is."""
    return None


def lessons_for(args: argparse.Namespace, name: str) -> Lessons:
    """The lessons about a model of the catalogue. Raises CliError."""
    from kerf.sizing.learned import taught_by
    from kerf.values.learned import Taught
    from kerfctl.errors import CliError

    if not (args.learned or args.learned_from):
        return no_lessons
    if not name:
        raise CliError("--learned: lessons are about models by name; give a name of the catalogue")
    learned = read_learned(args)

    def lessons(card: str) -> "Taught | None":
        if not card:
            raise CliError("--learned: lessons are about one kind of card; name it by --card")
        return taught_by(learned, name, card) or Taught((), learned.least_pods, learned.least_hours)

    return lessons


def read_learned(args: argparse.Namespace) -> "Learned":
    """All lessons. Raises CliError."""
    from kerf.wire.errors import WireError
    from kerf.wire.learned import learned_in

    source = args.learned_from or f"ConfigMap {args.learned_in}/kerf-learned"
    item = _file(args.learned_from) if args.learned_from else _stored(args)
    from kerfctl.errors import CliError

    try:
        return learned_in(item)
    except WireError as error:
        raise CliError(f"{source}: {error}") from error


def _stored(args: argparse.Namespace) -> Any:
    from kerf.kube.errors import KubeError, NotFound
    from kerf.wire.learned import path_of
    from kerfctl.cluster import connect_to
    from kerfctl.errors import CliError

    where = f"ConfigMap {args.learned_in}/kerf-learned"
    try:
        return connect_to(args).get(path_of(args.learned_in))
    except NotFound as error:
        fix = (
            "set policy.learning.mode to observe, and wait until servers have run (--learned-in names Kerf's namespace)"
        )
        raise CliError(f"{where}: nothing was learned in this cluster yet; {fix}") from error
    except KubeError as error:
        raise CliError(f"{where}: {error}") from error


def _file(path: str) -> Any:
    from kerfctl.documents import read_objects
    from kerfctl.errors import CliError

    found = [item for _, item in read_objects(path)]
    if len(found) != 1:
        raise CliError(f"{path}: holds {len(found)} objects where one ConfigMap is expected")
    return found[0]
