"""What a cluster has once, and files have twice: refused, because one of the two would silently win."""

from collections.abc import Iterable, Iterator

from kerf.values.vendor import Vendor
from kerf.wire.json import Json, at, text_at
from kerf.wire.objects import parse_node
from kerfctl.admission import is_stored
from kerfctl.errors import CliError


def refuse_doubles(items: Iterable[tuple[str, Json]]) -> None:
    """Objects, each with the name of its file. Raises CliError for the first one that is there twice.

    Pods that no cluster has yet may share a name: each is a wish of its own.
    """
    seen: dict[str, str] = {}
    for path, item in items:
        for sign, fix in _signs(item):
            if (before := seen.get(sign)) is not None:
                where = f"twice in {path}" if before == path else f"in {before} and again in {path}"
                raise CliError(f"{sign} is {where}: {fix}")
            seen[sign] = path


def refuse_shared_cards(nodes: Iterable[Json], vendors: tuple[Vendor, ...]) -> None:
    """Raises CliError for a card that two nodes list: it would count twice."""
    owner: dict[str, str] = {}
    for node in (parse_node(each, vendors) for each in nodes):
        for card in node.cards:
            if (other := owner.setdefault(card.id, node.name)) != node.name:
                fix = "leave out the node that is gone, or give the card the id that it has there"
                raise CliError(f"card {card.id} is on two nodes, {other} and {node.name}: {fix}")


def _signs(item: Json) -> Iterator[tuple[str, str]]:
    """What only one object of a cluster has, and what to do where two have it."""
    kind, name = item.get("kind"), text_at(item, "metadata", "name")
    key = f"{text_at(item, 'metadata', 'namespace') or 'default'}/{name}"
    if kind == "Node":
        yield f"node {name}", "leave one out, or give it its own name"
    elif kind == "Pod":
        if uid := text_at(item, "metadata", "uid"):
            yield f"a pod with the uid {uid}", f"leave out one of them (this one is {key}), or its uid"
        if name and is_stored(item):
            yield f"pod {key}", "leave one out; pods that are to be placed beside it have no nodeName and no status"
    elif kind == "ResourceClaim" and at(item, "status", "allocation"):
        yield f"claim {key} with an allocation", "leave one out"
