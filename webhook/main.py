"""Composition root of the webhook: settings in, a running server out. `python -m webhook`."""

import asyncio
import logging
import os
import re
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop
from aiohttp import web

from kerf.catalogue import shipped
from kerf.config.load import PolicyFile, load_settings, required_setting, setting
from kerf.config.vendors import HELP, with_described
from kerf.http.address import parse_bind
from kerf.http.tls import PeerTls, peer_context, server_context
from kerf.kube.client import connect
from kerf.kube.errors import KubeError
from kerf.obs.log import start_logging
from kerf.obs.metrics import Metrics
from kerf.sizing.cards import card_named
from kerf.values.accounts import TenantAccount
from kerf.values.learned import Learned
from kerf.values.policy import QuotaEngine, SchedulingPolicy
from kerf.values.vendor import Vendor
from kerf.vendors.registry import VENDORS
from kerf.wire.errors import WireError
from webhook.core.certificates import Lifetimes
from webhook.core.settings import CONTROLLERS, Settings
from webhook.server.advice import Adviser
from webhook.server.app import Limits, Service
from webhook.server.claims import ClaimDesk
from webhook.server.followed import Followed
from webhook.server.keeper import CertificateTargets, Keeper
from webhook.server.line import Line
from webhook.server.models import Rows as ModelRows
from webhook.server.models import follow_learned, follow_models
from webhook.server.rules import Rules
from webhook.server.tenants import follow_tenants

log = logging.getLogger("webhook")
IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
FINISH_S = 10.0
"""How long requests in flight may take to finish after SIGTERM."""
CLASS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
SPREAD_ROUNDS = 4
"""Looks of every replica between the injection of a new authority and the first certificate of it."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What `python -m webhook` takes."""

    bind: str = required_setting("HOST:PORT to serve on; port 0 takes a free one")
    tls_cert: str | None = setting(None, "PEM certificate chain; read again when it changes")
    tls_key: str | None = setting(None, "PEM private key")
    kubeconfig: str | None = setting(
        None, "how to reach the API server outside a cluster; for quota and --manage-certs"
    )
    scheduler_name: str = setting("kerf-scheduler", "schedulerName for pods that ask for cards")
    config: str | None = setting(None, "SchedulingPolicy whose defaults are filled in; read again when it changes")
    runtime_class: tuple[str, ...] = setting(
        (), "runtimeClassName for pods that name none: VENDOR=NAME, or NAME for NVIDIA's cards; repeatable"
    )
    trusted_user: tuple[str, ...] = setting((), "user who may change what only Kerf or HAMi write on pods; repeatable")
    controller_user: tuple[str, ...] = setting(
        (), "further user, or pattern with *, whose ownerReferences are believed; repeatable"
    )
    allowed_scheduler: tuple[str, ...] = setting((), "further scheduler that pods with cards may name; repeatable")
    opted_out_cards: bool = setting(False, "let pods with the label kerf.dev/webhook=ignore ask for cards")
    models: str = setting("", "namespace of the ConfigMaps with the cluster's own models; empty follows none")
    model_card: str = setting("", "card for which pods that name a model and select no card are sized")
    manage_certs: bool = setting(False, "make, share, renew and inject the webhook's certificates itself")
    namespace: str = setting("", "namespace of the Service and of the Secret with the certificates")
    service_name: str = setting("kerf-webhook", "Service by which API servers call the webhook")
    cert_secret: str = setting("kerf-webhook-cert", "Secret in which all replicas share certificates and keys")
    webhook_configuration: tuple[str, ...] = setting((), "MutatingWebhookConfiguration to inject into; repeatable")
    validating_webhook_configuration: tuple[str, ...] = setting(
        (), "ValidatingWebhookConfiguration to inject into; repeatable"
    )
    cert_host: tuple[str, ...] = setting((), "further name or address that the certificate is for; repeatable")
    cert_hours: float = setting(90 * 24.0, "life of a certificate; renewed when two thirds are over")
    authority_hours: float = setting(5 * 365 * 24.0, "life of the authority that issues them")
    cert_check_seconds: float = setting(30.0, "pause between two looks at Secret and configurations")
    drain_seconds: float = setting(0.0, "how long to go on serving, unready, after SIGTERM")
    scheduler: str = setting("", "HOST:PORT of the scheduler, which chooses kinds of cards and counts claims")
    scheduler_ca: str | None = setting(None, "CA of the scheduler's certificate; given, it is asked by HTTPS")
    scheduler_cert: str | None = setting(None, "client certificate to show the scheduler; read again when it changes")
    scheduler_key: str | None = setting(None, "private key of that certificate")
    extender_secret: str = setting("", "with --manage-certs: Secret to keep the scheduler's certificate in, too")
    extender_service: str = setting("kerf-scheduler", "Service that the scheduler's certificate is for")
    vendors: tuple[str, ...] = setting((), HELP)
    log_level: str = setting("info", "debug, info, warning or error")


class Tenants:
    """Follows the tenants' books from the first policy on whose quota is not off, where there is a cluster to ask."""

    def __init__(self, kubeconfig: str | None, rules: Rules) -> None:
        self._kubeconfig = kubeconfig
        self._rules = rules
        self._follower: Followed[TenantAccount] | None = None

    def adopt(self, policy: SchedulingPolicy) -> None:
        """Use another policy. Raises KubeError where the cluster's address cannot be used."""
        wanted = policy.quota.engine is not QuotaEngine.OFF
        if wanted and self._follower is None and (self._kubeconfig or IN_CLUSTER in os.environ):
            self._follower = follow_tenants(connect(self._kubeconfig, connections=2), self._rules.know)
            self._follower.start()
        self._rules.adopt(policy)

    def adopt_new(self, policy: SchedulingPolicy) -> None:
        """Use a policy that was read again; the old one stays where the new one cannot be served."""
        try:
            self.adopt(policy)
        except KubeError as error:
            log.warning("policy not reloaded: %s", error)

    def synced(self) -> bool:
        """Whether the books are read that reviews need."""
        return self._follower is None or self._follower.synced

    def stop(self) -> None:
        """Follow no longer."""
        if self._follower:
            self._follower.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Exit status: 0 after a clean stop, 1 when it could not start, 2 for bad flags."""
    flags = load_settings(Flags, argv, program="python -m webhook", about="Kerf's mutating admission webhook.")
    start_logging(flags.log_level)
    try:
        address = parse_bind(flags.bind)
        keeper = keeper_of(flags)
        extenders = extender_keeper_of(flags)
        tls = keeper.tls.context if keeper else server_context(flags.tls_cert, flags.tls_key)
        policy = PolicyFile(flags.config)
        rules = Rules(_settings(flags))
        tenants = Tenants(flags.kubeconfig, rules)
        tenants.adopt(policy.policy)
        models = models_of(flags, rules)
        line, registry = line_of(flags), Metrics()
    except (WireError, KubeError) as error:
        sys.stderr.write(f"webhook: {error}\n")
        return 1
    policy.start(tenants.adopt_new, lambda problem: log.warning("policy not reloaded: %s", problem))
    service = Service(
        rules.decide,
        registry,
        Limits(),
        ready=lambda: tenants.synced() and all(each.synced for each in models),
        advise=(ClaimDesk(line, registry).advise, *([Adviser(rules, line, registry).advise] if line else [])),
    )
    for each in models:
        each.start()
    if keeper:
        service.watch_certificates(keeper.obstacle, lambda: keeper.expiry)
        keeper.start()
    if extenders:
        extenders.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(service, address, tls, flags.drain_seconds))
    finally:
        for kept in (policy, tenants, *models, keeper, extenders):
            if kept:
                kept.stop()


def line_of(flags: Flags) -> Line | None:
    """The line to the scheduler, None where none is named. Raises WireError."""
    if not flags.scheduler:
        return None
    host, _, port = flags.scheduler.rpartition(":")
    if not host.strip("[]") or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
        raise WireError("--scheduler", flags.scheduler, "write HOST:PORT, for example kerf-scheduler.kerf-system:9090")
    return Line(host.strip("[]"), int(port), _scheduler_tls(flags))


def _scheduler_tls(flags: Flags) -> Callable[[], ssl.SSLContext] | None:
    """How the scheduler is asked, None for plain HTTP. Raises WireError."""
    given = (flags.scheduler_ca, flags.scheduler_cert, flags.scheduler_key)
    if flags.scheduler_cert or flags.scheduler_key:
        if not all(given):
            fix = "give --scheduler-ca, --scheduler-cert and --scheduler-key together"
            raise WireError("--scheduler-cert, --scheduler-key", flags.scheduler_cert or flags.scheduler_key, fix)
        return PeerTls(*(str(each) for each in given))
    context = peer_context(flags.scheduler_ca) if flags.scheduler_ca else None
    return None if context is None else lambda: context


def models_of(flags: Flags, rules: Rules) -> tuple[Followed[ModelRows] | Followed[Learned], ...]:
    """What follows the cluster's models and what was learned of any; nothing without a namespace. Raises KubeError."""
    if not flags.models:
        return ()
    kube = connect(flags.kubeconfig, connections=4)
    return follow_models(kube, flags.models, rules.offer), follow_learned(kube, flags.models, rules.learn)


def _settings(flags: Flags) -> Settings:
    if flags.model_card:
        card_named(flags.model_card)
    vendors = with_described(VENDORS, flags.vendors)
    return Settings(
        vendors,
        catalogue=shipped(),
        model_card=flags.model_card,
        scheduler_name=flags.scheduler_name,
        runtime_classes=_runtime_classes(flags.runtime_class, vendors),
        allowed_schedulers=frozenset(flags.allowed_scheduler),
        opted_out_cards=flags.opted_out_cards,
        trusted=frozenset(flags.trusted_user),
        controllers=(*CONTROLLERS, *flags.controller_user),
    )


def _runtime_classes(given: tuple[str, ...], vendors: tuple[Vendor, ...]) -> dict[str, str]:
    """RuntimeClasses by vendor. Raises WireError."""
    found: dict[str, str] = {}
    for text in given:
        vendor, equals, name = text.partition("=")
        vendor, name = (vendor, name) if equals else (vendors[0].name, text)
        if vendor not in {each.name for each in vendors}:
            known = ", ".join(each.name for each in vendors)
            raise WireError("--runtime-class", text, f"write VENDOR=NAME with one of {known}")
        if not CLASS_NAME.fullmatch(name):
            raise WireError("--runtime-class", text, "write the name of a RuntimeClass")
        if found.setdefault(vendor, name) != name:
            raise WireError("--runtime-class", text, f"{vendor} has {found[vendor]} already: drop one of the two")
    return found


def keeper_of(flags: Flags) -> Keeper | None:
    """What keeps the certificates, None when they come as files. Raises WireError, KubeError."""
    if not flags.manage_certs:
        return None
    if flags.tls_cert or flags.tls_key:
        raise WireError("--manage-certs", flags.tls_cert or flags.tls_key, "drop it, or --tls-cert and --tls-key")
    if not flags.namespace or not flags.webhook_configuration:
        raise WireError("--manage-certs", "", "give --namespace and --webhook-configuration too")
    if min(flags.cert_hours, flags.authority_hours, flags.cert_check_seconds) <= 0:
        raise WireError("--cert-hours, --authority-hours, --cert-check-seconds", "", "write numbers above 0")
    targets = CertificateTargets(
        flags.namespace,
        flags.cert_secret,
        flags.service_name,
        flags.webhook_configuration,
        flags.cert_host,
        flags.validating_webhook_configuration,
    )
    return Keeper(connect(flags.kubeconfig), targets, _lifetimes(flags), flags.cert_check_seconds)


def extender_keeper_of(flags: Flags) -> Keeper | None:
    """What keeps the scheduler's certificate, which its clients show as well; None where it has none of Kerf's."""
    if not flags.extender_secret:
        return None
    if not flags.manage_certs:
        raise WireError("--extender-secret", flags.extender_secret, "give --manage-certs too, or drop it")
    targets = CertificateTargets(flags.namespace, flags.extender_secret, flags.extender_service, ())
    return Keeper(connect(flags.kubeconfig), targets, _lifetimes(flags), flags.cert_check_seconds)


def _lifetimes(flags: Flags) -> Lifetimes:
    spread = SPREAD_ROUNDS * flags.cert_check_seconds
    return Lifetimes(flags.cert_hours * 3600, flags.authority_hours * 3600, spread)


async def serve(service: Service, address: tuple[str, int], tls: ssl.SSLContext | None, drain_s: float) -> int:
    """Listen, wait for a signal, drain."""
    runner = web.AppRunner(service.app(), access_log=None, handle_signals=False, shutdown_timeout=FINISH_S)
    await runner.setup()
    loop = asyncio.get_running_loop()
    assert runner.server is not None, "setup has made it"
    try:
        server = await service.listener.listen(runner.server, address, tls)
    except OSError as error:
        sys.stderr.write(f"webhook: cannot listen on {address[0]}:{address[1]}: {error.strerror or error}\n")
        await runner.cleanup()
        return 1
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    scheme = "https" if tls else "http"
    log.info("serving on %s://%s:%d", scheme, *server.sockets[0].getsockname()[:2])
    await stop.wait()
    service.draining = True
    log.info("draining")
    await asyncio.sleep(drain_s)
    server.close()
    await service.finish(FINISH_S)
    await runner.cleanup()
    log.info("stopped")
    return 0
