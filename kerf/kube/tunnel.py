"""A way to a port of a pod through the API server, and the bearer token that a kubeconfig has."""

import os
import socket
from typing import Any

from kerf.kube.errors import KubeError, Unreachable, error_of


class PodTunnel:
    """Opens connections to one port of one pod, as `kubectl port-forward` does. Safe from several threads."""

    def __init__(self, kubeconfig: str) -> None:
        from kubernetes import client, config

        self._configuration = client.Configuration()
        try:
            config.load_kube_config(kubeconfig, client_configuration=self._configuration)
        except (config.ConfigException, OSError) as error:
            raise KubeError(
                0, "Kubeconfig", f"{kubeconfig} cannot be used ({error}); pass --kubeconfig FILE"
            ) from error

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._configuration.host)

    def bearer_token(self) -> str:
        """The token with which the kubeconfig signs in; empty for client certificates."""
        settings: Any = self._configuration.auth_settings()
        for setting in settings.values():
            scheme, _, token = str(setting.get("value") or "").partition(" ")
            if scheme.lower() == "bearer":
                return token.strip()
        return ""

    def open(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A connected socket. Raises KubeError."""
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream import portforward

        # The library changes the client that it is given, so each tunnel has its own.
        api = client.CoreV1Api(client.ApiClient(self._configuration))
        try:
            forward: Any = portforward(api.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except ApiException as error:
            raise error_of(error.status or 0, str(error.reason), f"no port-forward to {namespace}/{pod}") from error
        except OSError as error:
            raise Unreachable(f"no port-forward to {namespace}/{pod}: {error}") from error
        inner = forward.socket(port)
        own = socket.socket(fileno=os.dup(inner.fileno()))
        own.setblocking(True)
        inner.close()
        return own
