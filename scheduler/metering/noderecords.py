"""The nodes' own records of pods that came and went, read over HTTP from each node's device plugin."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kerf.http.fetch import fetch
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.wire.errors import WireError
from kerf.wire.json import at, items_at, text_at
from kerf.wire.objects import is_finished
from kerf.wire.records import PodRecord, parse_records

_LOG = logging.getLogger("kerf.metering")
AT_ONCE = 16
TIMEOUT_S = 5.0
PLUGINS = "app.kubernetes.io/name=kerf,app.kubernetes.io/component=deviceplugin"


@dataclass(frozen=True, slots=True)
class NodeAnswers:
    """What the nodes said, and the nodes that did not answer."""

    records: tuple[PodRecord, ...]
    silent: tuple[str, ...]


def plugin_addresses(kube: Kube, namespace: str | None) -> dict[str, str]:
    """`HOST:PORT` of every running device plugin by its node. Raises KubeError.

    Only those of Kerf's own namespace: anybody may give a pod these labels, and bills believe what plugins say. None,
    as of a scheduler that runs outside of a cluster, is every namespace.
    """
    pods, _ = kube.list(paths.pods(namespace) if namespace else paths.PODS, {"labelSelector": PLUGINS})
    found = {}
    for pod in sorted(pods, key=lambda pod: not at(pod, "metadata").get("deletionTimestamp")):
        if is_finished(pod):
            continue
        ports = [
            port.get("containerPort")
            for container in items_at(pod, "spec", "containers")
            for port in items_at(container, "ports")
            if port.get("name") == "metrics"
        ]
        node, address = text_at(pod, "spec", "nodeName"), text_at(pod, "status", "podIP")
        if node and address and ports:
            found[node] = f"{f'[{address}]' if ':' in address else address}:{ports[0]}"
    return found


class NodeRecords:
    """Reads `/records` of every node. `addresses` are the plugins' `HOST:PORT` by node."""

    def __init__(self, addresses: Callable[[], Mapping[str, str]]) -> None:
        self._addresses = addresses

    def read(self, since_ms: int, nodes: Sequence[str]) -> NodeAnswers:
        """Records of pods that ended after a moment or still run, from these nodes. Never raises."""
        try:
            known = self._addresses()
        except KubeError as error:
            _LOG.warning("the nodes' device plugins cannot be listed: %s", error)
            known = {}
        asked = [(node, known[node]) for node in nodes if node in known]
        with ThreadPoolExecutor(AT_ONCE, "records") as pool:
            answers = list(pool.map(lambda each: self._ask(each[1], since_ms), asked))
        said = {node for (node, _), answer in zip(asked, answers, strict=True) if answer is not None}
        return NodeAnswers(tuple(_all(answers)), tuple(node for node in nodes if node not in said))

    def _ask(self, address: str, since_ms: int) -> tuple[PodRecord, ...] | None:
        try:
            return parse_records(fetch(f"http://{address}/records?since={since_ms}", TIMEOUT_S).decode())
        except (OSError, WireError, UnicodeDecodeError) as error:
            _LOG.warning("the records of %s cannot be read: %s", address, error)
            return None


def _all(answers: Iterable[tuple[PodRecord, ...] | None]) -> Iterable[PodRecord]:
    for answer in answers:
        yield from answer or ()
