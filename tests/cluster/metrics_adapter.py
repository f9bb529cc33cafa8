"""What an adapter for Prometheus does: it serves Kerf's metrics as external ones to Kubernetes' autoscaler.

The API server passes `external.metrics.k8s.io` on to this process, as to any aggregated API. It reads Kerf's page
itself; a real adapter would ask Prometheus about it.
"""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client.parser import text_string_to_metric_families

from sandbox import ControlPlane, await_until

GROUP = "external.metrics.k8s.io"
ROOT = f"/apis/{GROUP}/v1beta1"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


@dataclass
class Adapter:
    """`page` is the text of Kerf's /metrics."""

    page: str = ""

    def values(self, namespace: str, metric: str, labels: dict[str, str]) -> list[dict[str, Any]]:
        """The series of a namespace that have these labels, as the API has them."""
        samples = [each for family in text_string_to_metric_families(self.page) for each in family.samples]
        return [
            {
                "metricName": metric,
                "metricLabels": each.labels,
                "timestamp": "2026-01-01T00:00:00Z",
                "value": str(each.value),
            }
            for each in samples
            if each.name == metric and {"namespace": namespace, **labels}.items() <= each.labels.items()
        ]

    def answer(self, url: str) -> dict[str, Any] | None:
        """A document of the API; None for a path that it does not have."""
        where = urlsplit(url)
        if where.path == ROOT:
            found = {"name": "kerf_recommended_replicas", "namespaced": True, "verbs": ["get"]}
            kinds = {"kind": "ExternalMetricValueList", "singularName": ""}
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/v1beta1",
                "resources": [found | kinds],
            }
        parts = where.path.removeprefix(f"{ROOT}/namespaces/").split("/")
        if not where.path.startswith(f"{ROOT}/namespaces/") or len(parts) != 2:
            return None
        selector = parse_qs(where.query).get("labelSelector", [""])[0]
        labels = dict(pair.split("=", 1) for pair in selector.split(",") if pair)
        items = self.values(*parts, labels)
        return {"kind": "ExternalMetricValueList", "apiVersion": f"{GROUP}/v1beta1", "metadata": {}, "items": items}


@contextmanager
def an_adapter(cp: ControlPlane) -> Iterator[Adapter]:
    """An adapter that the API server has registered and reaches."""
    adapter = Adapter()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = adapter.answer(self.path)
            body = json.dumps(found or {}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is said."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*cp.authority.issue("adapter", hosts=("localhost",)).write(cp.layout.pki, "adapter"))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        _register(cp, server.server_address[1])
        yield adapter
    finally:
        cp.api.delete(f"{SERVICES}/v1beta1.{GROUP}")
        server.shutdown()
        server.server_close()


def _register(cp: ControlPlane, port: int) -> None:
    """No pod of the sandbox has an address that the API server reaches, so the service is a name of this machine."""
    service = {"metadata": {"name": "adapter"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    cp.api.post("/api/v1/namespaces/default/services", service)
    spec = {
        "group": GROUP, "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
        "insecureSkipTLSVerify": True, "service": {"namespace": "default", "name": "adapter", "port": port},
    }  # fmt: skip
    name = f"v1beta1.{GROUP}"
    kind = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService"}
    cp.api.post(SERVICES, {**kind, "metadata": {"name": name}, "spec": spec})

    def available() -> bool:
        conditions = cp.api.get(f"{SERVICES}/{name}").get("status", {}).get("conditions", [])
        return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)

    await_until(available, "the API server to reach the adapter")
