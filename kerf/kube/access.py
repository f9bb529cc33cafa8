"""How to reach the API server where a few files say it all: a pod's service account, or a plain kubeconfig.

The official library reads every other way (commands, providers, certificates inside the file, proxies). It costs each
process that loads it about half a second of CPU and 20 MB, so it is loaded for those alone.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_S = 60.0
"""The kubelet renews a token long before it ends; it is read again this often."""
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CLUSTER = frozenset({"server", "certificate-authority", "insecure-skip-tls-verify"})
_USER = frozenset({"token", "tokenFile", "client-certificate", "client-key"})


@dataclass(slots=True)
class Access:
    """An API server and who asks it. The names are those of the official library's configuration."""

    host: str
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify_ssl: bool = True
    assert_hostname: bool | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    connection_pool_maxsize: int = 32
    _read_at: float = float("-inf")

    def auth_settings(self) -> dict[str, dict[str, str]]:
        """The header that says who asks, as the library gives it."""
        if self.token_file is not None and time.monotonic() - self._read_at > TOKEN_S:
            self._read_at = time.monotonic()
            self.token = _text(self.token_file) or self.token
        return {"BearerToken": {"key": "authorization", "value": f"Bearer {self.token}"}} if self.token else {}

    def pool(self) -> Any:  # noqa: ANN401 (the connection pool of urllib3, which the client uses untyped)
        """Connections to the server, as many as `connection_pool_maxsize`."""
        import ssl

        import urllib3

        manager = urllib3.PoolManager(
            cert_reqs=ssl.CERT_REQUIRED if self.verify_ssl else ssl.CERT_NONE,
            ca_certs=self.ssl_ca_cert,
            cert_file=self.cert_file,
            key_file=self.key_file,
            maxsize=self.connection_pool_maxsize,
        )
        return manager.connection_from_url(self.host)


def access_of(kubeconfig: str | None, context: str | None = None) -> Access | None:
    """The access that a kubeconfig file, or the pod's account for None, gives; None where only the library can say.

    Without a `context` it is the file's current one.
    """
    if any(os.environ.get(name) or os.environ.get(name.lower()) for name in _PROXIES):
        return None
    return _in_kubeconfig(Path(kubeconfig), context) if kubeconfig else _in_cluster(os.environ, ACCOUNT)


def command_of(kubeconfig: str, name: str | None = None) -> str:
    """The command that gives a kubeconfig's user a credential; empty where there is none."""
    try:
        document = yaml.safe_load(Path(kubeconfig).read_text())
        context = _named(document, "contexts", name or document["current-context"])["context"]
        return str(_named(document, "users", context["user"])["user"]["exec"]["command"])
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError, StopIteration):
        return ""


def _in_cluster(environment: Mapping[str, str], account: Path) -> Access | None:
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    authority, token = account / "ca.crt", account / "token"
    if not host or not port or not _text(authority) or not _text(token):
        return None
    name = f"[{host}]" if ":" in host else host
    return Access(f"https://{name}:{port}", ssl_ca_cert=str(authority), token_file=token)


def _in_kubeconfig(path: Path, name: str | None) -> Access | None:
    try:
        document = yaml.safe_load(path.read_text())
        context = _named(document, "contexts", name or document["current-context"])["context"]
        cluster = _named(document, "clusters", context["cluster"])["cluster"]
        user = _named(document, "users", context["user"])["user"] or {}
        plain = cluster.keys() <= _CLUSTER and user.keys() <= _USER and isinstance(cluster["server"], str)
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError, StopIteration):
        return None
    if not plain or not all(isinstance(each, str) for each in user.values()):
        return None
    return _plain(path.parent, cluster, user)


def _plain(folder: Path, cluster: Mapping[str, Any], user: Mapping[str, str]) -> Access | None:
    """A path in a kubeconfig is relative to it. Where a file is missing, the library says so."""
    named = (cluster.get("certificate-authority"), user.get("client-certificate"), user.get("client-key"))
    files = [str(folder / name) if name else None for name in named]
    token_file = folder / user["tokenFile"] if user.get("tokenFile") else None
    if any(not Path(name).is_file() for name in files if name) or (token_file and not _text(token_file)):
        return None
    return Access(
        cluster["server"].rstrip("/"),
        ssl_ca_cert=files[0],
        cert_file=files[1],
        key_file=files[2],
        verify_ssl=cluster.get("insecure-skip-tls-verify") is not True,
        token=user.get("token", ""),
        token_file=token_file,
    )


def _named(document: Mapping[str, Any], kind: str, name: object) -> Any:  # noqa: ANN401
    """The entry of a kubeconfig's list. Raises StopIteration."""
    return next(each for each in document[kind] if each["name"] == name)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
