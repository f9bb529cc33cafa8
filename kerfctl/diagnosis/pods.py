"""Checks of pods among other things that use cards: what nobody offers, what sees cards that it was not granted."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from kerf.wire.json import Json, at, items_at
from kerf.wire.objects import is_finished
from kerf.wire.resources import is_privileged
from kerfctl.diagnosis.dump import Dump, Finding, Level, name_of, notes_of
from kerfctl.offers import Offers

MOST_NAMED = 3
_HIDDEN = frozenset({"", "none", "void"})


def resources(dump: Dump) -> Iterator[Finding]:
    """No pod waits for a resource that no node offers."""
    if not dump.nodes:
        return
    offers, waiting = Offers(dump.nodes, dump.pods, dump.names), defaultdict[str, list[str]](list)
    for pod in dump.pods:
        if not at(pod, "spec").get("nodeName") and not is_finished(pod):
            for name in offers.unserved(offers.asked(at(pod, "spec"))):
                waiting[name].append(name_of(pod))
    for name, pods in sorted(waiting.items()):
        fix = "correct the pods' owner, or install the device plugin that offers it"
        yield Finding(f"{offers.explain(name)} ({_some(pods)} wait for it)", fix)


def visible(dump: Dump) -> Iterator[Finding]:
    """No container of a node that Kerf serves sees cards that it was not granted."""
    served = {name_of(node) for node in dump.nodes if any(v.inventory_key in notes_of(node) for v in dump.vendors)}
    for pod in dump.pods:
        spec = at(pod, "spec")
        if spec.get("nodeName") not in served or is_finished(pod) or pod_of_kerf(pod):
            continue
        for container in (*items_at(spec, "initContainers"), *items_at(spec, "containers")):
            yield from _seen_by(dump, pod, container)


def _seen_by(dump: Dump, pod: Json, container: Json) -> Iterator[Finding]:
    where = f"pod {name_of(pod)}, container {container.get('name')} on {at(pod, 'spec')['nodeName']}"
    limits = at(container, "resources", "limits")
    asks = any(name in limits for words in dump.names for name in words.all)
    if asks and is_privileged(container):
        what = f"{where} is privileged and sees every card of the node, whatever it was granted"
        yield Finding(what, "drop securityContext.privileged: devices need no privilege", Level.WARNING)
    if asks:
        return
    env = {str(each.get("name")): str(each.get("value") or "") for each in items_at(container, "env")}
    for name in (words.open_env for words in dump.names if words.open_env):
        if env.get(name, "") not in _HIDDEN:
            fix = f"drop {name} there, or let it ask for a slice (docs/neighbours.md, Pods without an ask)"
            yield Finding(
                f"{where} sets {name} and asks for no card: it may use cards that others hold", fix, Level.WARNING
            )


def pod_of_kerf(pod: Json) -> bool:
    """Whether a pod is one of Kerf's own: its device plugin sees every card, and holds none."""
    return bool(at(pod, "metadata", "labels").get("app.kubernetes.io/name") == "kerf")


def _some(pods: list[str]) -> str:
    more = len(pods) - MOST_NAMED
    return ", ".join(pods[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


CHECKS: Mapping[str, Callable[[Dump], Iterator[Finding]]] = {"resources": resources, "visible": visible}
