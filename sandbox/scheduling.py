"""The kube-scheduler configuration that Kerf ships: one profile and its extender. Pure."""

from dataclasses import dataclass
from typing import Any

from kerf.values.words import ResourceNames
from kerf.vendors.registry import NAMES

EXPLICIT_WISH_WEIGHT = 100_000
"""User preferences in the pod outweigh every score of the extender (at most 10 * 10 * its weight)."""

WISHES = ("NodeAffinity", "PodTopologySpread", "InterPodAffinity", "TaintToleration")
OVERRULED = ("NodeResourcesFit", "NodeResourcesBalancedAllocation", "ImageLocality")
"""Scores that would blur the extender's order of the nodes. Their filters remain."""


@dataclass(frozen=True, slots=True)
class Extender:
    """How kube-scheduler reaches Kerf's extender.

    `url` has no trailing slash; `ca_file` is set for https, and `pair` where the extender wants a client certificate
    (certificate and key); `timeout_seconds` is per call. `words` are the vendors' whose cards kube-scheduler asks the
    extender about.
    """

    url: str
    ca_file: str | None = None
    pair: tuple[str, str] | None = None
    weight: int = 1
    timeout_seconds: int = 10
    words: tuple[ResourceNames, ...] = NAMES


def render_scheduler_configuration(
    kubeconfig: str, extender: Extender | None, *, profile: str = "kerf-scheduler", max_backoff_seconds: int = 1
) -> dict[str, Any]:
    """A KubeSchedulerConfiguration for one replica with `profile` as its only scheduler name.

    `max_backoff_seconds` limits how long a refused pod waits after capacity is freed (Kubernetes' default: 10).
    """
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 1000, "burst": 1000},
        "leaderElection": {"leaderElect": False},
        "percentageOfNodesToScore": 100,
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": max_backoff_seconds,
        "profiles": [_profile(profile)],
        "extenders": [_extender(extender)] if extender else [],
    }


def _profile(name: str) -> dict[str, Any]:
    return {
        "schedulerName": name,
        "plugins": {
            "score": {
                "enabled": [{"name": wish, "weight": EXPLICIT_WISH_WEIGHT} for wish in WISHES],
                "disabled": [{"name": plugin} for plugin in (*WISHES, *OVERRULED)],
            }
        },
        "pluginConfig": [{"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": []}}],
    }


def _extender(extender: Extender) -> dict[str, Any]:
    files = dict(zip(("certFile", "keyFile"), extender.pair or (), strict=False))
    tls = {"enableHTTPS": True, "tlsConfig": {"caFile": extender.ca_file, **files}} if extender.ca_file else {}
    return {
        "urlPrefix": extender.url,
        "filterVerb": "filter",
        "prioritizeVerb": "prioritize",
        "preemptVerb": "preempt",
        "bindVerb": "bind",
        "weight": extender.weight,
        "nodeCacheCapable": True,
        "httpTimeout": f"{extender.timeout_seconds}s",
        "managedResources": [
            *({"name": names.count, "ignoredByScheduler": not names.scheduled} for names in extender.words),
            *({"name": name, "ignoredByScheduler": True} for names in extender.words for name in names.ignored),
        ],
        **tls,
    }
