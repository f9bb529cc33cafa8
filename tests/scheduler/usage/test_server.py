"""Gateways report through real gRPC with real TLS: who may, what is counted, and what is stored of it."""

import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kerf.kube.errors import Busy
from kerf.metering.reports import OTHER, Reports
from kerf.obs.metrics import Metrics
from kerf.testing.fake_kube import FakeKube
from kerf.values.usage import HOUR_MS, ReportedRow
from kerf.wire.errors import WireError
from kerf.wire.gatewayrecords import parse_reported
from scheduler.usage._pb import gateway_usage_pb2 as pb
from scheduler.usage.identity import TokenReviews, by_certificate
from scheduler.usage.listen import Files, credentials
from scheduler.usage.main import Settings, check, start_server
from scheduler.usage.metrics import UsageMetrics
from scheduler.usage.service import SERVICE, UsageService
from scheduler.usage.store import ReportStore

NOW = 1_764_000_000_000 - 1_764_000_000_000 % HOUR_MS
METHOD = f"/{SERVICE}/UsageReport"
ACCOUNT = "system:serviceaccount:knoway:gateway"
TOKENS = {
    "good": (ACCOUNT, "kerf-usage"),
    "other": ("system:serviceaccount:a:b", "kerf-usage"),
    "wide": (ACCOUNT, "another-server"),
}
"""Whose a token is, and for what."""


class Reviewing(FakeKube):
    """An API server that knows tokens: the user, and what the token is for."""

    reviews = 0

    def create(self, path: str, body: Any, query: Any = None) -> Any:
        if not path.endswith("/tokenreviews"):
            return super().create(path, body, query)
        self.fail("POST", path)
        self.reviews += 1
        user, audience = TOKENS.get(body["spec"]["token"], ("", ""))
        meant = [one for one in body["spec"]["audiences"] if one == audience]
        return {"status": {"authenticated": bool(user and meant), "audiences": meant, "user": {"username": user}}}


@dataclass
class World:
    """A server on loopback with its store, and the certificates of its clients."""

    kube: Reviewing
    reports: Reports
    store: ReportStore
    folder: Path
    ports: dict[str, int]

    def channel(self, port: str, client: str = "") -> grpc.Channel:
        files = [(self.folder / f"{client}.{end}").read_bytes() for end in ("key", "crt")] if client else [None, None]
        how = grpc.ssl_channel_credentials((self.folder / "ca.crt").read_bytes(), *files)
        return grpc.secure_channel(
            f"127.0.0.1:{self.ports[port]}", how, [("grpc.ssl_target_name_override", "localhost")]
        )

    def report(self, port: str, client: str = "", token: str = "", request: Any = None) -> Any:
        """The answer, or the status code of the refusal."""
        body = request or a_report()
        with self.channel(port, client) as channel:
            call = channel.unary_unary(
                METHOD, pb.UsageReportRequest.SerializeToString, pb.UsageReportResponse.FromString
            )
            meta = [("authorization", f"Bearer {token}")] if token else []
            try:
                return call(body, timeout=20, metadata=meta).accepted
            except grpc.RpcError as error:
                return error.code()

    def stored(self) -> list[tuple[str, ReportedRow]]:
        self.store.write()
        found = [parse_reported(item) for item in self.kube.objects("/apis/kerf.dev/v1alpha1/gatewayusages")]
        return sorted(((hour.gateway, row) for hour in found for row in hour.rows), key=str)


def a_report(**changes: Any) -> Any:
    usage = {"input_tokens": 100, "output_tokens": 10, **changes.pop("usage", {})}
    fields = {"api_key_id": "k", "user_model_name": "chat", "upstream_model_name": "qwen3-8b", "mode": 1}
    return pb.UsageReportRequest(**{**fields, **changes}, usage=pb.UsageReportRequest.Usage(**usage))


def make_certificates(folder: Path) -> None:
    """An authority, a server, an allowed and an unknown client, and one of another authority."""
    for authority, names in (("ca", ("server", "gateway", "stranger")), ("other-ca", ("forged",))):
        key, root = a_pair(authority, None)
        write(folder / f"{authority}.crt", root.public_bytes(serialization.Encoding.PEM))
        for name in names:
            own, certificate = a_pair("gateway" if name == "forged" else name, (key, root))
            write(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
            plain = serialization.NoEncryption()
            form = serialization.PrivateFormat.PKCS8
            write(folder / f"{name}.key", own.private_bytes(serialization.Encoding.PEM, form, plain))


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def a_pair(name: str, by: Any) -> tuple[Any, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by[1].subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if name == "server":
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return key, builder.sign(by[0] if by else key, hashes.SHA256())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    make_certificates(made)
    return made


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    kube, reports = Reviewing(), Reports("server-1", most_rows=10, most_hours=2)
    metrics = UsageMetrics.build(Metrics())
    service = UsageService(reports, lambda: NOW, metrics)
    store = ReportStore(kube, reports, service.lock, metrics, retention_days=2)
    files = Files(str(folder / "server.crt"), str(folder / "server.key"), str(folder / "ca.crt"))
    reviews = TokenReviews(kube, ("knoway/gateway",))
    tokens, first = start_server(service.handlers(reviews.identify), "127.0.0.1:0", credentials(files))
    handlers = service.handlers(by_certificate(("gateway",)))
    certificates, second = start_server(handlers, "127.0.0.1:0", credentials(files, clients=True))
    yield World(kube, reports, store, folder, {"tokens": first, "certificates": second})
    for server in (tokens, certificates):
        server.stop(None).wait()


def test_reports_are_summed_by_gateway_key_user_and_model(world: World):
    assert world.report("tokens", token="good") is True
    assert (
        world.report("tokens", token="good", request=a_report(usage={"output_tokens": 5, "cached_tokens": 40})) is True
    )
    assert world.report("certificates", "gateway", request=a_report(api_key_id="x", user_id="eve")) is True

    assert world.stored() == [
        ("gateway", ReportedRow("x", "eve", "qwen3-8b", 1, 100, 0, 10)),
        ("knoway/gateway", ReportedRow("k", "", "qwen3-8b", 2, 200, 40, 15)),
    ]


@pytest.mark.parametrize(
    ("port", "client", "token", "code"),
    [
        ("tokens", "", "", grpc.StatusCode.UNAUTHENTICATED),
        ("tokens", "", "unknown", grpc.StatusCode.UNAUTHENTICATED),
        ("tokens", "", "wide", grpc.StatusCode.UNAUTHENTICATED),
        ("tokens", "", "other", grpc.StatusCode.PERMISSION_DENIED),
        ("tokens", "gateway", "", grpc.StatusCode.UNAUTHENTICATED),
        ("certificates", "", "good", grpc.StatusCode.UNAVAILABLE),
        ("certificates", "forged", "", grpc.StatusCode.UNAVAILABLE),
        ("certificates", "stranger", "", grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=["no token", "no such token", "a token for another server", "another account", "a certificate there",
         "no certificate", "another authority's", "another name"],
)  # fmt: skip
def test_nobody_else_may_report(world: World, port: str, client: str, token: str, code: grpc.StatusCode):
    assert (world.report(port, client, token), world.stored()) == (code, [])


def test_a_token_is_reviewed_once_in_a_while_and_an_api_server_that_is_away_refuses(world: World):
    for _ in range(5):
        world.report("tokens", token="good")
    assert world.kube.reviews == 1

    def away(method: str, path: str) -> None:
        raise Busy(503, "ServiceUnavailable", "later")

    world.kube.fail = away
    assert world.report("tokens", token="new") is grpc.StatusCode.UNAVAILABLE
    assert world.report("tokens", token="good") is True


@pytest.mark.parametrize(
    "request_",
    [
        a_report(upstream_model_name="", user_model_name=""),
        a_report(api_key_id="k" * 254),
        a_report(user_id="a\nb"),
        a_report(usage={"input_tokens": 2**63}),
    ],
    ids=["no model", "a long key", "a line break", "more tokens than a request has"],
)
def test_what_is_no_report_is_refused(world: World, request_: Any):
    assert world.report("tokens", token="good", request=request_) is grpc.StatusCode.INVALID_ARGUMENT
    assert world.stored() == []


def test_the_wire_is_that_of_knoway():
    # tag = field number << 3 | 2 for texts and messages, | 0 for numbers
    raw = b"\x0a\x01k\x12\x01c\x1a\x01m\x22\x04\x08\x05\x10\x03\x28\x01"

    read = pb.UsageReportRequest.FromString(raw)

    assert read == a_report(user_model_name="c", upstream_model_name="m", usage={"input_tokens": 5, "output_tokens": 3})
    assert read.SerializeToString(deterministic=True) == raw
    assert pb.UsageReportResponse(accepted=True).SerializeToString() == b"\x08\x01"
    assert pb.DESCRIPTOR.services_by_name["UsageStatsService"].full_name == SERVICE


def test_another_process_of_the_server_adds_to_what_is_stored(world: World):
    world.report("tokens", token="good")
    world.stored()
    again = Reports("server-2")
    again.add(NOW, "knoway/gateway", ReportedRow("k", "", "qwen3-8b", 1, 7, 0, 1))

    ReportStore(world.kube, again, threading.Lock(), UsageMetrics.build(Metrics()), 2).write()

    assert [row.input for _, row in world.stored()] == [100, 7]


def test_what_cannot_be_stored_now_is_stored_later_and_memory_is_bounded(world: World):
    def away(method: str, path: str) -> None:
        raise Busy(503, "ServiceUnavailable", "later")

    world.kube.fail = away
    row = ReportedRow("k", "", "m", 1, 1, 0, 1)
    assert [world.reports.add(NOW + hour * HOUR_MS, "g", row) for hour in range(3)] == [True, True, False]
    with pytest.raises(Busy):
        world.store.run_once(NOW + 9 * HOUR_MS)

    world.kube.fail = lambda method, path: None
    world.store.run_once(NOW + 9 * HOUR_MS)

    assert ([row.requests for _, row in world.stored()], world.reports.rows) == ([1, 1], 0)


def test_keys_beyond_the_bound_are_summed_and_no_token_is_lost():
    reports = Reports("s", most_rows=10)
    for i in range(50):
        assert reports.add(NOW, "g", ReportedRow(f"k{i}", "u", "m", 1, 2, 0, 1))

    ((hour, _),) = reports.unsaved()
    assert len(hour.rows) == 11
    assert sum(row.input for row in hour.rows) == 100
    assert hour.rows[0] == ReportedRow(OTHER, OTHER, "m", 40, 80, 0, 40)


def test_old_records_are_deleted(world: World):
    old, new = Reports("s"), Reports("s")
    for reports, at in ((old, NOW - 3 * 24 * HOUR_MS), (new, NOW)):
        reports.add(at, "g", ReportedRow("k", "", "m", 1, 1, 0, 1))
        ReportStore(world.kube, reports, threading.Lock(), UsageMetrics.build(Metrics()), 2).write()

    world.store.run_once(NOW)

    assert len(world.kube.objects("/apis/kerf.dev/v1alpha1/gatewayusages")) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({}, "--bind-tokens, --bind-certificates"),
        ({"bind_tokens": ":1"}, "--tls-cert, --tls-key"),
        ({"bind_tokens": ":1", "tls_cert": "c", "tls_key": "k"}, "--allow-account"),
        (
            {"bind_certificates": ":1", "tls_cert": "c", "tls_key": "k", "client_ca": "a"},
            "--client-ca, --allow-certificate",
        ),
    ],
)
def test_a_server_that_lets_everybody_or_nobody_in_does_not_start(changes: dict[str, Any], field: str):
    with pytest.raises(WireError) as caught:
        check(Settings(**changes))

    assert caught.value.field == field
