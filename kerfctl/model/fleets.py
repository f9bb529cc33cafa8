"""The cards that a model could run on: of a fleet file, or of the cluster's inventory."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import yaml

from kerf.probes.simulated import parse_fleet
from kerf.values.device import Card
from kerf.values.slicing import sliceable
from kerf.values.vendor import Vendor, with_slicing
from kerfctl.errors import CliError

OTHERS = "every-other-node"


def file_nodes(path: str, vendors: tuple[Vendor, ...]) -> list[tuple[Card, ...]]:
    """The nodes of a fleet file; its last cards stand for one node that it does not name. Raises CliError."""
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path}: {error.strerror if isinstance(error, OSError) else error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise CliError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    named = document.get("nodes") if isinstance(document, dict) else None
    names = [str(name) for name in named] if isinstance(named, dict) else []
    if not names or (isinstance(document, dict) and document.get("cards")):
        names.append(OTHERS)
    return [_usable(with_slicing(parse_fleet(document, name), vendors)) for name in names]


def cluster_nodes(args: argparse.Namespace) -> list[tuple[Card, ...]]:
    """The usable cards of every node of the cluster, or of a snapshot. Raises CliError."""
    from kerfctl.world import read_world

    desk = read_world(args).seen().store.desk
    nodes = [_usable(state.card for state in desk.state(name).cards) for name in desk.node_names()]
    return [cards for cards in nodes if cards]


def _usable(cards: Iterable[Card]) -> tuple[Card, ...]:
    return tuple(card for card in cards if card.healthy and sliceable(card))
