"""The nodes' monitors: by their addresses, or all of a cluster's, through its API server."""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kerf.http.fetch import fetch
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.errors import Forbidden, KubeError
from kerf.wire.errors import WireError
from kerf.wire.json import Json, at, items_at, text_at
from kerf.wire.objects import is_finished
from kerf.wire.top import NodeTop, parse_top
from kerfctl.errors import CliError
from kerfctl.report import warn

LABELS = {"app.kubernetes.io/name": "kerf", "app.kubernetes.io/component": "deviceplugin"}
USUAL = "kerf-system"
"""The namespace of a release, where several could be it."""
PLUGINS = ",".join(f"{key}={value}" for key, value in LABELS.items())
LARGEST_ANSWER = 16 << 20
"""Bytes; a node's answer is a few kilobytes."""
AT_ONCE = 16
NO_PLUGIN = "no device plugin of Kerf runs in this cluster; name monitors by URL instead"


def of_urls(urls: Iterable[str]) -> dict[str, NodeTop]:
    """What each monitor says. Raises CliError for the first that does not answer."""
    return {url: _read(url) for url in urls}


def of_cluster(kube: Kube) -> tuple[dict[str, NodeTop], dict[str, str]]:
    """What each node's monitor says, and by node why another does not answer. Raises CliError."""
    try:
        plugins = kube.list(paths.PODS, {"labelSelector": PLUGINS})[0]
    except KubeError as error:
        raise CliError(f"Pods cannot be read: {error}") from error
    plugins = [pod for pod in plugins if LABELS.items() <= at(pod, "metadata", "labels").items()]
    plugins = [pod for pod in _of_one_release(plugins) if not is_finished(pod)]
    if not plugins:
        raise CliError(NO_PLUGIN)
    with ThreadPoolExecutor(AT_ONCE, "monitors") as pool:
        answers = list(pool.map(lambda pod: _ask(kube, pod), plugins))
    found: dict[str, NodeTop] = {}
    silent: dict[str, str] = {}
    for node, answer in sorted(answers, key=lambda each: each[0]):
        if isinstance(answer, NodeTop):
            found[node] = answer
        else:
            silent[node] = answer
    return found, {node: why for node, why in silent.items() if node not in found}


def _of_one_release(plugins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of Kerf's own namespace: anybody may give a pod its labels. Raises CliError where that is not known."""
    spaces = sorted({text_at(pod, "metadata", "namespace") for pod in plugins})
    if len(spaces) < 2:
        return plugins
    if USUAL not in spaces:
        fix = "only one of them can be Kerf's: name monitors by URL, or remove the labels of the others"
        raise CliError(f"pods with the labels of Kerf's device plugin are in the namespaces {', '.join(spaces)}: {fix}")
    others = ", ".join(space for space in spaces if space != USUAL)
    warn(f"kerf: pods with the labels of Kerf's device plugin are in {others}, too; only those of {USUAL} are asked")
    return [pod for pod in plugins if text_at(pod, "metadata", "namespace") == USUAL]


def _ask(kube: Kube, pod: Json) -> tuple[str, NodeTop | str]:
    node = text_at(pod, "spec", "nodeName")
    namespace, name = text_at(pod, "metadata", "namespace"), text_at(pod, "metadata", "name")
    ports = (port for container in items_at(pod, "spec", "containers") for port in items_at(container, "ports"))
    port = next((port.get("containerPort") for port in ports if port.get("name") == "metrics"), None)
    if not port:
        return node, f"pod {namespace}/{name} serves no metrics: set devicePlugin.metricsPort"
    try:
        return node, parse_top(json.dumps(kube.get(f"{paths.pod(namespace, name)}:{port}/proxy/top")))
    except Forbidden as error:
        raise CliError(f"{error}; kerf top needs the right to get pods/proxy in {namespace}") from error
    except (KubeError, WireError, ValueError) as error:
        return node, str(error)


def _read(url: str) -> NodeTop:
    address = url if "://" in url else f"http://{url}"
    if not address.startswith(("http://", "https://")):
        raise CliError(f"{url}: write http://HOST:PORT")
    try:
        text = fetch(f"{address.rstrip('/')}/top", 10.0, largest=LARGEST_ANSWER).decode()
    except (OSError, ValueError) as error:
        raise CliError(f"{url}: no node monitor answers ({error})") from error
    try:
        return parse_top(text)
    except WireError as error:
        raise CliError(f"{url}: the answer is not a node monitor's, or of another version of kerf ({error})") from error
