"""Checks of Kerf's CustomResourceDefinitions: Helm installs them once and never upgrades them."""

from collections.abc import Callable, Iterator, Mapping

from kerf.wire.json import Json, at, items_at
from kerfctl.diagnosis.dump import Dump, Finding, Level, name_of

APPLY = "kubectl apply --server-side --force-conflicts -f charts/kerf/crds"
"""What brings the definitions of a checkout into a cluster."""


def definitions(dump: Dump) -> Iterator[Finding]:
    """The definitions in the cluster know the fields that this version of Kerf reads and writes, and no others."""
    found = {name_of(each): each for each in dump.definitions}
    for ours in dump.shipped:
        name = name_of(ours)
        if name not in found:
            continue  # `quota` says so where it matters
        here, there = fields_of(ours), fields_of(found[name])
        if missing := sorted(here - there):
            what = (
                f"CRD {name} is older than this kerf: it does not know {_some(missing)}, which is dropped when written"
            )
            yield Finding(what, f"{APPLY} (Helm does not upgrade it; docs/upgrade.md)")
        elif more := sorted(there - here):
            what = f"CRD {name} is newer than this kerf: it also has {_some(more)}"
            yield Finding(what, "use the kerf of the release that is installed", Level.WARNING)


def fields_of(definition: Json) -> frozenset[str]:
    """Every field that a definition's versions know, as VERSION:path, and VERSION/status where status is apart."""
    found = set()
    for version in items_at(definition, "spec", "versions"):
        name = str(version.get("name"))
        found |= {f"{name}:{path}" for path in _paths(at(version, "schema", "openAPIV3Schema"), "")}
        found |= {f"{name}/{part}" for part in at(version, "subresources")}
    return frozenset(found)


def _paths(schema: Json, path: str) -> Iterator[str]:
    for key, inner in at(schema, "properties").items():
        if path or key not in {"apiVersion", "kind", "metadata"}:
            where = f"{path}.{key}" if path else str(key)
            yield where
            yield from _paths(inner, where)
    for key in ("items", "additionalProperties"):
        if schema.get(key):
            yield from _paths(at(schema, key), f"{path}[]")


def _some(names: list[str]) -> str:
    outer = [name for name in names if not any(name != other and name.startswith(other) for other in names)]
    return ", ".join(outer[:3]) + (f" and {len(outer) - 3} more" if len(outer) > 3 else "")


CHECKS: Mapping[str, Callable[[Dump], Iterator[Finding]]] = {"crds": definitions}
