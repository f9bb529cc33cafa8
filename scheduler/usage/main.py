"""The composition root of the usage server: read settings, build the objects, wire them, run. No logic."""

import logging
import signal
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from kerf.config.load import load_settings, setting
from kerf.http.address import parse_bind
from kerf.http.pages import serve_pages
from kerf.kube.client import connect
from kerf.kube.errors import KubeError
from kerf.kube.leadership import unique_identity
from kerf.metering.reports import Reports
from kerf.obs.clock import SteadyClock
from kerf.obs.log import start_logging
from kerf.obs.metrics import Metrics
from kerf.wire.errors import WireError
from scheduler.usage.identity import TokenReviews, by_certificate
from scheduler.usage.listen import Files, credentials
from scheduler.usage.metrics import UsageMetrics
from scheduler.usage.service import UsageService
from scheduler.usage.store import ReportStore

_LOG = logging.getLogger("kerf.usage")
THREADS = 8
MOST_CALLS = 64
"""Reports at once; further ones are refused with RESOURCE_EXHAUSTED, and the gateway may send them again."""
LARGEST = 64 << 10
END_S = 5.0
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_concurrent_streams", MOST_CALLS),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the usage server runs."""

    kubeconfig: str | None = setting(None, "kubeconfig file; without it, the pod's service account")
    bind_tokens: str | None = setting(None, "HOST:PORT for gateways that send a service account's token")
    bind_certificates: str | None = setting(None, "HOST:PORT for gateways with a TLS client certificate")
    tls_cert: str | None = setting(None, "certificate file; read again when it changes")
    tls_key: str | None = setting(None, "private key file")
    client_ca: str | None = setting(None, "CA of the gateways' certificates")
    allow_account: tuple[str, ...] = setting((), "NAMESPACE/NAME of a service account that may report; repeat it")
    allow_certificate: tuple[str, ...] = setting((), "common or DNS name of a certificate that may report; repeat it")
    write_seconds: float = setting(10.0, "longest time between a report and its record")
    retention_days: int = setting(35, "days for which records are kept")
    pages: str = setting("127.0.0.1:9395", "HOST:PORT of /metrics, /healthz and /readyz")
    log_level: str = setting("info", "debug, info, warning or error")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    settings = load_settings(
        Settings, argv, program="python -m scheduler.usage", about="Kerf's server of gateways' use"
    )
    start_logging(settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(settings, stop)
    except (WireError, KubeError, OSError, RuntimeError) as error:
        _LOG.error("%s", error)
        return 1
    return 0


def serve(settings: Settings, stop: threading.Event) -> None:
    """Serve until stopped. Raises WireError for settings that let nobody, or everybody, report."""
    check(settings)
    kube, clock, registry = connect(settings.kubeconfig, connections=8, timeout_s=5.0), SteadyClock(), Metrics()
    metrics = UsageMetrics.build(registry)
    reports = Reports(unique_identity(socket.gethostname()))
    service = UsageService(reports, clock.now_ms, metrics)
    store = ReportStore(kube, reports, service.lock, metrics, settings.retention_days)
    servers = []
    files = Files(settings.tls_cert or "", settings.tls_key or "", settings.client_ca or "")
    if settings.bind_tokens:
        reviews = TokenReviews(kube, settings.allow_account)
        servers.append(start_server(service.handlers(reviews.identify), settings.bind_tokens, credentials(files))[0])
    if settings.bind_certificates:
        handlers = service.handlers(by_certificate(settings.allow_certificate))
        servers.append(start_server(handlers, settings.bind_certificates, credentials(files, clients=True))[0])
    writer = threading.Thread(target=store.run, args=(settings.write_seconds, clock.now_ms, stop), name="store")
    writer.start()
    http = serve_pages(parse_bind(settings.pages), registry)
    stop.wait()
    for ended in [server.stop(END_S) for server in servers]:
        ended.wait()
    writer.join()
    store.last()
    http.shutdown()


def check(settings: Settings) -> None:
    """Raises WireError with the fix."""
    if not settings.bind_tokens and not settings.bind_certificates:
        raise WireError("--bind-tokens, --bind-certificates", None, "give at least one: HOST:PORT")
    if not settings.tls_cert or not settings.tls_key:
        raise WireError(
            "--tls-cert, --tls-key", settings.tls_cert, "give both: reports and tokens are not sent in the clear"
        )
    if settings.bind_tokens and not settings.allow_account:
        raise WireError("--allow-account", None, "name the service accounts that may report")
    if settings.bind_certificates and not (settings.client_ca and settings.allow_certificate):
        raise WireError(
            "--client-ca, --allow-certificate", settings.client_ca, "give the CA, and the names that may report"
        )


def start_server(handlers: grpc.GenericRpcHandler, bind: str, how: grpc.ServerCredentials) -> tuple[grpc.Server, int]:
    """Serve on an address; the server, and its port. Raises RuntimeError where the address is taken."""
    pool = ThreadPoolExecutor(THREADS, "reports")
    server = grpc.server(pool, options=OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
    server.add_generic_rpc_handlers((handlers,))
    host, port = parse_bind(bind)
    chosen = server.add_secure_port(f"{f'[{host}]' if ':' in host else host or '[::]'}:{port}", how)
    server.start()
    return server, chosen
