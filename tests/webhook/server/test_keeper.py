"""Certificates kept in a Secret: several replicas, one winner, and a bundle that stays where it belongs."""

import base64
import contextlib
import ssl
import threading
from typing import Any

import pytest

from kerf.http.pki import Authority, Certificate
from kerf.kube.errors import Forbidden, KubeError
from kerf.testing.fake_kube import FakeKube
from webhook.core.certificates import Lifetimes
from webhook.server.keeper import CONFIGURATIONS, VALIDATING, CertificateTargets, Keeper
from webhook.server.material import parse_secret, render_data

SECRETS = "/api/v1/namespaces/kerf/secrets"
SECRET, CONFIGURATION = f"{SECRETS}/kerf-webhook-cert", f"{CONFIGURATIONS}/kerf"
PLACES = CertificateTargets("kerf", "kerf-webhook-cert", "kerf-webhook", ("kerf",))
DAY = 86_400.0


def a_configuration(name: str = "kerf", *bundles: str | None) -> dict[str, Any]:
    hooks = [{"name": f"{i}.kerf.dev", "clientConfig": {"caBundle": b} if b else {}} for i, b in enumerate(bundles)]
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": hooks or [{"name": "0.kerf.dev", "clientConfig": {"service": {"name": "kerf-webhook"}}}],
    }


def a_secret(**data: bytes) -> dict[str, Any]:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    meta = {"name": "kerf-webhook-cert", "namespace": "kerf"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": encoded}


class Clock:
    """Starts now, because certificates are made by the real clock."""

    def __init__(self) -> None:
        import time

        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def a_keeper(kube: FakeKube, places: CertificateTargets = PLACES, **lives: float) -> tuple[Keeper, Clock]:
    clock = Clock()
    return Keeper(kube, places, Lifetimes(**lives), 60.0, clock), clock


def stored(kube: FakeKube) -> Any:
    material = parse_secret(kube.get(SECRET))
    assert material
    return material


def bundles(kube: FakeKube, name: str = "kerf") -> set[bytes]:
    hooks = kube.get(f"{CONFIGURATIONS}/{name}")["webhooks"]
    return {base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks}


def served(keeper: Keeper) -> bytes:
    """The certificate that a client gets in a handshake."""
    client_side, server_side = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = context.wrap_bio(client_side, server_side, server_hostname="x")
    server = keeper.tls.context.wrap_bio(server_side, client_side, server_side=True)
    for _ in range(4):
        for end in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True) or b"").encode()


def test_a_fresh_cluster_gets_a_secret_a_bundle_and_a_trusted_certificate() -> None:
    kube = FakeKube(a_configuration())
    keeper, clock = a_keeper(kube)
    assert keeper.obstacle() == "certificates: not looked at yet"

    assert keeper.look()

    material = stored(kube)
    leaf = Certificate.parse(served(keeper))
    assert (keeper.obstacle(), leaf.pem) == ("", material.served.certificate)
    assert bundles(kube) == {material.bundle}
    assert leaf.issued_by(Certificate.parse(material.bundle))
    assert leaf.hosts == {
        "kerf-webhook",
        "kerf-webhook.kerf",
        "kerf-webhook.kerf.svc",
        "kerf-webhook.kerf.svc.cluster.local",
    }
    assert keeper.expiry == leaf.until == pytest.approx(clock() + 90 * DAY, abs=5)


def test_the_extenders_certificate_is_kept_in_its_secret_alone() -> None:
    """Its clients read the Secret: there is no configuration to inject into."""
    kube = FakeKube(a_configuration())
    places = CertificateTargets("kerf", "kerf-scheduler-cert", "kerf-scheduler", ())

    assert Keeper(kube, places, Lifetimes(), every_s=30.0).look()

    secret = kube.get(f"{SECRETS}/kerf-scheduler-cert")
    made = parse_secret(secret)
    assert made is not None
    assert "kerf-scheduler.kerf.svc" in made.held().hosts
    assert bundles(kube) == {b""}


def test_a_second_look_writes_nothing() -> None:
    kube = FakeKube(a_configuration())
    keeper, _ = a_keeper(kube)
    keeper.look()
    before = len(kube.writes)

    assert keeper.look()
    assert len(kube.writes) == before


def test_an_empty_secret_of_the_chart_is_filled_and_keeps_its_type() -> None:
    kube = FakeKube(a_configuration(), a_secret())
    keeper, _ = a_keeper(kube)

    assert keeper.look()
    assert (kube.get(SECRET)["type"], bundles(kube)) == ("kubernetes.io/tls", {stored(kube).bundle})


def test_replicas_that_start_at_once_end_up_with_one_certificate() -> None:
    kube = FakeKube(a_configuration())
    keepers = [a_keeper(kube)[0] for _ in range(4)]
    gate = threading.Barrier(4)
    wait_once = {SECRETS: gate}

    def together(method: str, path: str) -> None:
        if method == "POST" and path in wait_once:
            gate.wait(10)  # all four have read that there is no Secret

    kube.fail = together
    threads = [threading.Thread(target=keeper.look) for keeper in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_once.clear()

    assert all(keeper.look() for keeper in keepers)
    assert {served(keeper) for keeper in keepers} == {stored(kube).served.certificate}
    assert bundles(kube) == {stored(kube).bundle}


@pytest.mark.parametrize("secret", [a_secret(ca_crt=b"x", ca_key=b"x", tls_crt=b"x", tls_key=b"x"), a_secret()])
def test_a_broken_secret_is_written_again(secret: dict[str, Any]) -> None:
    kube = FakeKube(a_configuration(), secret)
    keeper, _ = a_keeper(kube)

    assert keeper.look()
    assert served(keeper) == stored(kube).served.certificate


def test_a_secret_that_cert_manager_keeps_is_left_alone() -> None:
    pair = Authority().issue("cert-manager")
    kube = FakeKube(a_configuration(), a_secret(ca_crt=b"x", tls_crt=pair.certificate, tls_key=pair.key))
    keeper, _ = a_keeper(kube)

    assert not keeper.look()
    assert kube.writes == []
    assert keeper.obstacle() == (
        "certificates: Secret kerf/kerf-webhook-cert: 'no ca.key': "
        "another program manages it: drop --manage-certs, or name another --cert-secret"
    )


def test_it_is_unready_until_every_configuration_carries_the_bundle() -> None:
    kube = FakeKube(a_configuration())
    keeper, _ = a_keeper(kube, CertificateTargets("kerf", "kerf-webhook-cert", "kerf-webhook", ("kerf", "late")))

    assert not keeper.look()
    assert keeper.obstacle() == "certificates: there is no MutatingWebhookConfiguration 'late'"

    kube.put(a_configuration("late", None, None))
    assert keeper.look()
    assert (keeper.obstacle(), bundles(kube, "late")) == ("", {stored(kube).bundle})


def test_a_validating_configuration_carries_the_bundle_too_and_is_named_where_it_is_missing() -> None:
    kube = FakeKube(a_configuration())
    places = CertificateTargets("kerf", "kerf-webhook-cert", "kerf-webhook", ("kerf",), validating=("kerf",))
    keeper, _ = a_keeper(kube, places)
    keeper.look()
    assert keeper.obstacle() == "certificates: there is no ValidatingWebhookConfiguration 'kerf'"
    kube.put({**a_configuration(), "kind": "ValidatingWebhookConfiguration"})

    keeper.look()

    (hook,) = kube.get(f"{VALIDATING}/kerf")["webhooks"]
    assert ({base64.b64decode(hook["clientConfig"]["caBundle"])}, keeper.obstacle()) == (bundles(kube), "")


@pytest.mark.parametrize("reset", [(None,), ("Zm9v",), ("Zm9v", None)], ids=["removed", "another", "two webhooks"])
def test_a_bundle_that_somebody_resets_is_injected_again_and_the_replica_stays_ready(reset: tuple[str | None]) -> None:
    kube = FakeKube(a_configuration())
    keeper, _ = a_keeper(kube)
    keeper.look()

    kube.put(a_configuration("kerf", *reset))
    assert keeper.obstacle() == ""
    assert keeper.look()
    assert bundles(kube) == {stored(kube).bundle}


def test_a_certificate_is_renewed_and_every_replica_serves_the_new_one() -> None:
    kube = FakeKube(a_configuration())
    (one, clock), (two, _) = a_keeper(kube), a_keeper(kube)
    one.look(), two.look()
    first, bundle = served(one), bundles(kube)

    clock.now += (
        61 * DAY
    )  # for one alone: certificates are made by the real clock, and two would find its work due again
    one.look(), two.look()

    assert served(one) == served(two) != first
    assert bundles(kube) == bundle


def test_an_authority_is_replaced_without_a_moment_of_mistrust() -> None:
    kube = FakeKube(a_configuration())
    keeper, clock = a_keeper(kube, authority=10 * DAY, certificate=5 * DAY, spread=600.0)
    keeper.look()
    old = stored(kube)

    clock.now += 7 * DAY  # two thirds of ten days are over
    keeper.look()
    joined = stored(kube)
    assert (joined.served, joined.older) == (old.served, (old.authority.certificate,))
    assert bundles(kube) == {joined.authority.certificate + old.authority.certificate}

    clock.now += 601.0  # certificates are made by the real clock, so the spread is over already
    keeper.look()
    issued = stored(kube)
    assert Certificate.parse(issued.served.certificate).issued_by(Certificate.parse(joined.authority.certificate))
    assert bundles(kube) == {joined.bundle}
    assert served(keeper) == issued.served.certificate


def test_a_deleted_secret_brings_a_new_key_and_the_old_one_stays_trusted() -> None:
    kube = FakeKube(a_configuration())
    keeper, _ = a_keeper(kube)
    keeper.look()
    old = stored(kube)

    kube.remove(SECRET)
    keeper.look()

    fresh = stored(kube)
    assert (fresh.served, fresh.older) == (old.served, (old.authority.certificate,))
    assert fresh.authority != old.authority
    assert bundles(kube) == {fresh.bundle}


def test_an_api_server_that_says_no_is_named_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube(a_configuration())
    keeper, _ = a_keeper(kube)

    def forbid(method: str, path: str) -> None:
        if path == SECRET:
            raise Forbidden(403, "Forbidden", "secrets is forbidden")

    kube.fail = forbid
    assert not keeper.look()
    assert not keeper.look()
    assert keeper.obstacle() == "certificates: Forbidden (403): secrets is forbidden"
    assert len([record for record in caplog.records if "forbidden" in record.message]) == 1

    kube.fail = lambda method, path: None
    assert keeper.look()
    assert keeper.obstacle() == ""


def test_a_defect_does_not_end_the_keeping() -> None:
    kube = FakeKube(a_configuration())
    keeper, _ = a_keeper(kube)

    def break_down(method: str, path: str) -> None:
        raise ZeroDivisionError

    kube.fail = break_down
    assert not keeper.look()
    kube.fail = lambda method, path: None
    assert keeper.look()


def test_no_key_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    kube = FakeKube(a_configuration(), a_secret(ca_crt=b"x", ca_key=b"x", tls_crt=b"x", tls_key=b"x"))
    keeper, clock = a_keeper(kube)
    keeper.look()
    clock.now += 61 * DAY
    kube.fail = lambda method, path: fail(method)
    keeper.look()

    secrets = [*render_data(stored_quietly(kube)).values(), stored_quietly(kube).served.key.decode()]
    assert [word for word in secrets if word in caplog.text] == []


def fail(method: str) -> None:
    if method == "PUT":
        raise KubeError(500, "InternalError", "etcd")


def stored_quietly(kube: FakeKube) -> Any:
    kube.fail = lambda method, path: None
    return stored(kube)


def test_the_thread_looks_until_it_is_stopped() -> None:
    kube = FakeKube(a_configuration())
    looked = threading.Event()
    kube.after = lambda method, path: looked.set()
    keeper, _ = a_keeper(kube)

    keeper.start()
    assert looked.wait(10)
    keeper.stop()
