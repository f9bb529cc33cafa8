"""Certificates that a TLS stack accepts for what they were made for, and only for that."""

import socket
import ssl
import threading

import pytest
from cryptography import x509

from kerf.http.pki import Authority, Certificate, KeyPair, generate_key


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "127.0.0.1") -> dict:
    """Connect to `host` over a socket pair; the client's certificate as the server saw it."""
    near, far = socket.socketpair()
    seen = {}

    def serve() -> None:
        try:
            with server.wrap_socket(far, server_side=True) as tls:
                seen.update(tls.getpeercert() or {})
                tls.sendall(b"!")
        except (ssl.SSLError, OSError):
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(near, server_hostname=host) as tls:
            tls.recv(1)
    finally:
        near.close()
        thread.join()
    return seen


def contexts(authority: Authority, tmp_path, *, trusted: Authority | None = None):
    certificate, key = authority.issue("server").write(tmp_path, "server")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=authority.certificate.decode())
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cadata=(trusted or authority).certificate.decode())
    return server, client


def test_a_server_on_loopback_is_trusted_by_who_trusts_the_authority(tmp_path):
    handshake(*contexts(Authority(), tmp_path))


def test_another_authority_is_not_trusted(tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError, match=r"certificate signature failure|self-signed|unable to get"):
        handshake(*contexts(Authority(), tmp_path, trusted=Authority()))


def test_another_host_is_not_trusted(tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(*contexts(Authority(), tmp_path), host="127.0.0.2")


def test_a_client_is_its_name_and_its_groups(tmp_path):
    authority = Authority()
    server, client = contexts(authority, tmp_path)
    server.verify_mode = ssl.CERT_REQUIRED
    client.load_cert_chain(*authority.issue("alice", ("team-a", "team-b")).write(tmp_path, "alice"))

    subject = handshake(server, client)["subject"]

    assert sorted(pair for names in subject for pair in names) == [
        ("commonName", "alice"),
        ("organizationName", "team-a"),
        ("organizationName", "team-b"),
    ]


def test_a_key_file_is_its_owners_alone(tmp_path):
    _, key = Authority().issue("server").write(tmp_path, "server")

    assert key.stat().st_mode & 0o777 == 0o600


def test_an_issued_certificate_may_not_sign_others():
    certificate = x509.load_pem_x509_certificate(Authority().issue("server").certificate)

    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_signing_key_is_one_that_the_api_server_reads():
    assert generate_key().startswith(b"-----BEGIN EC PRIVATE KEY-----")


def test_an_authority_that_was_kept_goes_on_issuing(tmp_path):
    kept = Authority(kept=Authority().pair)

    handshake(*contexts(kept, tmp_path))


def test_an_authority_with_anothers_key_is_refused():
    one, other = Authority().pair, Authority().pair

    with pytest.raises(ValueError, match="another certificate's"):
        Authority(kept=KeyPair(one.certificate, other.key))


def test_a_certificate_never_outlives_its_authority():
    authority = Authority(lifetime_s=60)

    assert (
        Certificate.parse(authority.issue("server", lifetime_s=600).certificate).until
        == Certificate.parse(authority.certificate).until
    )


def test_a_certificate_names_its_hosts_its_issuer_and_its_key():
    authority, stranger = Authority(), Authority()
    pair = authority.issue("server", hosts=("a.svc", "127.0.0.1"))
    found = Certificate.parse(pair.certificate)

    assert found.hosts == {"a.svc", "127.0.0.1"}
    assert found.issued_by(Certificate.parse(authority.certificate))
    assert not found.issued_by(Certificate.parse(stranger.certificate))
    assert found.belongs_to(pair.key)
    assert not found.belongs_to(stranger.pair.key)


def test_a_bundle_is_read_in_its_order():
    one, two = Authority().certificate, Authority().certificate

    assert [each.pem for each in Certificate.parse_all(one + two)] == [one, two]


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"])
def test_what_is_no_certificate_is_a_value_error(pem):
    with pytest.raises(ValueError, match=r"."):
        Certificate.parse_all(pem)


def test_a_pair_does_not_show_its_key():
    pair = Authority().pair

    assert pair.key.decode() not in f"{pair!r} {pair}"
