"""The token that signs somebody in, and the cookie that the page makes of it."""

import http.client
import json

from kerf.kube.client import Kube
from kerf.kube.errors import KubeError
from kerf.wire.json import text_at
from kerfctl.cluster import may
from kerfctl.errors import CliError

SECONDS = 3600
VIEWER = "kerf-page-viewer"


def token_of(kube: Kube, own: str, namespace: str, service_account: str | None) -> str:
    """The person's own token, else one of a ServiceAccount that sees no more than the person. Raises CliError.

    Who may ask for a ServiceAccount's token has that account's rights by that alone. The release's own account sees
    everything, so it is taken only for those who may list the pods of all namespaces themselves.
    """
    if own and not service_account:
        return own
    space, _, name = (service_account or f"{namespace}/{VIEWER}").rpartition("/")
    if not space or not name:
        raise CliError(f"--service-account {service_account}: write NAMESPACE/NAME")
    try:
        if not service_account and not (may(kube, "list", "", "pods") and may(kube, "list", "", "nodes")):
            raise CliError(
                "your kubeconfig has no token, and you may not list the pods of all namespaces and the nodes: name a "
                "ServiceAccount whose token you may ask for: --service-account NAMESPACE/NAME"
            )
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": SECONDS},
        }
        answer = kube.create(f"/api/v1/namespaces/{space}/serviceaccounts/{name}/token", body)
    except KubeError as error:
        raise CliError(f"no token of ServiceAccount {space}/{name}: {error}") from error
    return text_at(answer, "status", "token")


def cookie_of(port: int, token: str) -> str:
    """Sign in at the page behind a port of this machine; the cookie. Raises CliError, OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20.0)
    headers = {"Content-Type": "application/json", "kerf-page": "1", "Connection": "close"}
    try:
        connection.request("POST", "/api/sign-in", json.dumps({"token": token}), headers)
        answer = connection.getresponse()
        words = answer.read().decode(errors="replace").strip()
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise CliError(f"the page does not let you in: {words}")
    return answer.headers.get("Set-Cookie", "")
