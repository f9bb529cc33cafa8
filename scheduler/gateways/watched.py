"""The pods that serve models and the Services that lead to them, followed by watches of their own.

Only what the settings name is followed: the pods of their namespaces with their labels. Of these only pods that serve
are kept, and members of the groups of LeaderWorkerSets.
"""

import threading
from collections.abc import Sequence

from kerf.gateways.replicas import matters
from kerf.kube import paths
from kerf.kube.client import Kube
from kerf.kube.mirror import Mirror
from kerf.values.gateways import GatewaySettings, Per
from kerf.wire.json import Json


class Watched:
    """Follows what one version of the settings names."""

    def __init__(self, kube: Kube, settings: GatewaySettings, changed: threading.Event) -> None:
        self.scope = scope_of(settings)
        selector = ",".join(f"{key}={value}" for key, value in settings.pods)
        query = {"labelSelector": selector} if selector else {}
        services = _paths(paths.SERVICES, settings) if settings.per is Per.SERVICE else []
        self._pods = Mirror(
            kube, dict.fromkeys(_paths(paths.PODS, settings), "Pod"), query, changed=changed, keeps=matters
        )
        self._services = Mirror(kube, dict.fromkeys(services, "Service"), changed=changed)

    def start(self) -> None:
        """Begin; returns at once."""
        self._pods.start()
        self._services.start()

    def stop(self) -> None:
        """End as soon as the current waits end."""
        self._pods.stop()
        self._services.stop()

    @property
    def synced(self) -> bool:
        """Whether everything was listed once."""
        return self._pods.synced and self._services.synced

    @property
    def version(self) -> int:
        """Grows with every change of what is kept."""
        return self._pods.version + self._services.version

    @property
    def pods(self) -> Sequence[Json]:
        """The pods that serve. Callers do not change them."""
        return self._pods.items()

    @property
    def services(self) -> Sequence[Json]:
        """The Services; none unless they are targets."""
        return self._services.items()


def scope_of(settings: GatewaySettings) -> tuple[object, ...]:
    """What of the settings changes what is followed."""
    return (settings.namespaces, settings.pods, settings.per)


def _paths(everywhere: str, settings: GatewaySettings) -> list[str]:
    if not settings.namespaces:
        return [everywhere]
    root, _, plural = everywhere.rpartition("/")
    return [f"{root}/namespaces/{namespace}/{plural}" for namespace in settings.namespaces]
