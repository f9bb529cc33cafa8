"""`kerf cluster plan`: what the manager has decided for each FleetWorkload, and why replicas have no place."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError, NotFound
from kerf.wire.fleet import WORKLOADS, parse_assigned, render_assigned
from kerf.wire.json import Json, at, items_at, text_at
from kerfctl.errors import CliError
from kerfctl.fleet.connect import NO_KIND, manager_of
from kerfctl.report import Sheet, say

UNSEEN = "no manager has looked at it yet (kerf fleet run, or the chart's value fleet.enabled)"
OLDER = "no manager has looked at its last change, so this is the plan from before: does a manager run?"
_MARKS = {"Placed": "✗", "AsPlanned": "~"}
"""The conditions that are shown where they do not hold, and the mark of each."""


def plan(args: argparse.Namespace) -> int:
    """Print every workload's parts, or one's. Exit status 1 where replicas have no place, or a plan is an older one."""
    found = [_row(item) for item in _workloads(manager_of(args), args.workload)]
    if args.json:
        print(json.dumps({"workloads": found}, indent=2))
    else:
        sheet = Sheet("Plan", ("workload", "cluster", "model", ">replicas", ">leaving"))
        for row in found:
            for part in row["parts"] or [{"cluster": "-", "model": "-", "replicas": 0}]:
                words = (part["cluster"], part["model"], str(part["replicas"]), str(part.get("leaving", 0)))
                sheet.add(row["name"], *words)
        sheet.print()
        say(*(line for row in found for line in _lines(row)))
    return int(any("Placed" in row["says"] for row in found))


def _lines(row: dict[str, Any]) -> Iterator[str]:
    for kind, said in row["says"].items():
        yield f"{_MARKS[kind]} {row['name']}: {said}"


def _row(item: Json) -> dict[str, Any]:
    meta, status = at(item, "metadata"), at(item, "status")
    conditions = {text_at(each, "type"): each for each in items_at(status, "conditions")}
    says = {
        kind: text_at(each, "message")
        for kind in _MARKS
        if (each := conditions.get(kind)) is not None and each.get("status") != "True"
    }
    if not conditions:
        says = {"Placed": UNSEEN}
    elif int(status.get("observedGeneration") or 0) < int(meta.get("generation") or 0):
        says = {**says, "Placed": OLDER}
    return {
        "name": f"{meta.get('namespace') or 'default'}/{meta.get('name')}",
        "replicas": at(item, "spec").get("replicas"),
        "placed": status.get("placed", 0),
        "readyReplicas": status.get("readyReplicas", 0),
        "costPerHour": status.get("costPerHour"),
        "parts": render_assigned(parse_assigned(item)),
        "says": says,
    }


def _workloads(kube: Kube, name: str | None) -> list[dict[str, Any]]:
    """The FleetWorkloads, or those of one name. Raises CliError."""
    try:
        items, _ = kube.list(WORKLOADS)
    except NotFound as error:
        raise CliError(NO_KIND) from error
    except KubeError as error:
        raise CliError(f"FleetWorkloads cannot be read: {error}") from error
    keys = {f"{item['metadata'].get('namespace')}/{item['metadata']['name']}": item for item in items}
    found = [item for key, item in sorted(keys.items()) if name in (None, key, item["metadata"]["name"])]
    if name is not None and not found:
        raise CliError(f"{name}: no such FleetWorkload; there are: {', '.join(sorted(keys)) or 'none'}")
    return found
