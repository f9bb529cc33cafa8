"""Keeps the webhook's certificates: shared in a Secret, renewed in time, trusted by every API server."""

import base64
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from kerf.http.pki import Authority
from kerf.http.tls import LiveContext
from kerf.kube.client import Json, Kube
from kerf.kube.errors import Conflict, KubeError, NotFound
from kerf.wire.errors import WireError
from webhook.core.certificates import Lifetimes, Scene, Step, decide
from webhook.server.material import NAME, Material, is_foreign, parse_secret, render_data, take

log = logging.getLogger("webhook.certificates")
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
VALIDATING = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RETRY_S = 1.0
"""Pause after a round that could not do everything."""


@dataclass(frozen=True, slots=True)
class CertificateTargets:
    """Where certificates are stored and injected, and the names they are for."""

    namespace: str
    secret: str
    service: str
    configurations: tuple[str, ...]
    more_hosts: tuple[str, ...] = ()
    validating: tuple[str, ...] = ()
    """ValidatingWebhookConfigurations."""

    @property
    def secrets(self) -> str:
        """The path of the namespace's Secrets."""
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    @property
    def injected(self) -> tuple[str, ...]:
        """The paths of all that the bundle is injected into."""
        return (
            *(f"{CONFIGURATIONS}/{name}" for name in self.configurations),
            *(f"{VALIDATING}/{name}" for name in self.validating),
        )

    @property
    def hosts(self) -> tuple[str, ...]:
        """API servers call a Service by NAME.NAMESPACE.svc."""
        service = f"{self.service}.{self.namespace}.svc"
        return (service, f"{service}.cluster.local", f"{self.service}.{self.namespace}", self.service, *self.more_hosts)


class Keeper:
    """Looks at Secret and configurations every `every_s` seconds; `tls` serves what it finds or makes.

    Until then `tls` serves a certificate that nobody trusts, so that probes are answered.
    """

    def __init__(
        self,
        kube: Kube,
        targets: CertificateTargets,
        lifetimes: Lifetimes,
        every_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kube = kube
        self._targets = targets
        self._lifetimes = lifetimes
        self._every_s = every_s
        self._clock = clock
        self.tls = LiveContext(Authority(NAME).issue(NAME))
        self.expiry = 0.0
        """When the certificate that is served ends; 0 before there is one."""
        self._material: Material | None = None
        self._trusted = False
        self._problem = "not looked at yet"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="certificates", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(5.0)

    def obstacle(self) -> str:
        """Why API servers cannot trust this process yet; empty from the first time that they can."""
        return "" if self._trusted else f"certificates: {self._problem}"

    def look(self) -> bool:
        """One round; whether nothing was left to do. Problems are logged once and end up in `obstacle`."""
        try:
            problem = self._round()
        except (KubeError, WireError) as error:
            problem = str(error)
        except Exception:  # the thread must outlive a defect: without it certificates expire
            log.exception("the certificates could not be kept")
            problem = "a defect; the log has the trace"
        if problem and problem != self._problem:
            log.warning("certificates: %s", problem)
        self._problem = problem
        return not problem

    def _run(self) -> None:
        while not self._stop.is_set():
            self._stop.wait(self._every_s if self.look() else min(RETRY_S, self._every_s))

    def _round(self) -> str:
        """What keeps the certificates from being right, empty when they are."""
        secret, stored = self._read()
        material = stored or self._material
        problem = self._serve_trusted(material) if stored and material else ""
        scene = Scene(frozenset(self._targets.hosts), injected=bool(stored) and not problem, stored=stored is not None)
        step = decide(material.held() if material else None, self._clock(), self._lifetimes, scene)
        if step is Step.KEEP:
            return problem
        fresh = take(step, material, self._lifetimes, self._targets.hosts)
        try:
            self._write(secret, fresh)
        except Conflict:
            return "another replica wrote the Secret first"
        log.info("certificates: %s", step.value)
        return self._serve_trusted(fresh)

    def _serve_trusted(self, material: Material) -> str:
        """Inject the bundle, serve the certificate; what could not be injected."""
        problem = "; ".join(filter(None, [self._inject(path, material.bundle) for path in self._targets.injected]))
        if material != self._material:
            self.tls.adopt(material.served)
            self._material = material
            self.expiry = material.held().certificate.until
        self._trusted = self._trusted or not problem
        return problem

    def _inject(self, path: str, bundle: bytes) -> str:
        """Write the bundle into one configuration; returns the problem, if any."""
        wanted, name = base64.b64encode(bundle).decode(), path.rpartition("/")[2]
        kind = "ValidatingWebhookConfiguration" if path.startswith(VALIDATING) else "MutatingWebhookConfiguration"
        try:
            document = self._kube.get(path)
            clients = [each.setdefault("clientConfig", {}) for each in document.get("webhooks") or []]
            stale = [client for client in clients if client.get("caBundle") != wanted]
            for client in stale:
                client["caBundle"] = wanted
            if stale:
                self._kube.replace(path, document)  # its resourceVersion keeps a change made meanwhile
                log.info("certificates: bundle injected into %s", name)
        except NotFound:
            return f"there is no {kind} {name!r}"
        except KubeError as error:
            return f"{kind} {name!r}: {error}"
        return ""

    def _read(self) -> tuple[Json | None, Material | None]:
        """The Secret as it is, and what it holds if that can be used."""
        try:
            secret = self._kube.get(f"{self._targets.secrets}/{self._targets.secret}")
        except NotFound:
            return None, None
        if is_foreign(secret):
            fix = "another program manages it: drop --manage-certs, or name another --cert-secret"
            raise WireError(f"Secret {self._targets.namespace}/{self._targets.secret}", "no ca.key", fix)
        try:
            return secret, parse_secret(secret)
        except WireError as error:
            log.warning("the Secret %s is replaced: %s", self._targets.secret, error)
            return secret, None

    def _write(self, secret: Json | None, material: Material) -> None:
        """Raises Conflict if another replica wrote first."""
        data = render_data(material)
        if secret is not None:
            self._kube.replace(f"{self._targets.secrets}/{self._targets.secret}", {**secret, "data": data})
            return
        meta = {"name": self._targets.secret, "namespace": self._targets.namespace}
        labels = {"app.kubernetes.io/name": "kerf", "app.kubernetes.io/component": "webhook"}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "labels": labels}, "type": "Opaque"}
        self._kube.create(self._targets.secrets, {**body, "data": data})
