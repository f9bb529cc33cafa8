"""Certificates: an authority that issues them, and what is read out of them. P-256, PEM, Unix seconds."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME_S = 30 * 86_400.0
BACKDATED_S = 3600.0
"""A certificate is valid this long before it was made: clocks differ."""
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return "KeyPair(…)"  # so that a log line never shows the key

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.crt and NAME.key (mode 0600); their paths."""
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_bytes(self.certificate)
        key.touch(mode=0o600)
        key.write_bytes(self.key)
        return certificate, key


class Authority:
    """A certificate authority with a key of its own, for clients and servers."""

    def __init__(
        self, name: str = "kerf-sandbox", lifetime_s: float = LIFETIME_S, *, kept: KeyPair | None = None
    ) -> None:
        """Make a key and a self-signed certificate, or go on with a pair that was kept.

        Raises ValueError for a pair that is not one.
        """
        if kept:
            found = Certificate.parse(kept.certificate)
            if not found.belongs_to(kept.key):
                raise ValueError("the authority's key is another certificate's")
            self._key, self._subject = _private_key(kept.key), found.raw.subject
            self._until = found.raw.not_valid_after_utc
            self.certificate = kept.certificate
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._until = _now() + dt.timedelta(seconds=lifetime_s)
        certificate = (
            self._builder(self._subject, self._key.public_key(), self._until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def pair(self) -> KeyPair:
        """The authority's own certificate and key."""
        return KeyPair(self.certificate, _pem(self._key))

    def issue(
        self,
        common_name: str,
        organizations: tuple[str, ...] = (),
        hosts: tuple[str, ...] = LOOPBACK,
        lifetime_s: float = LIFETIME_S,
    ) -> KeyPair:
        """A certificate for a server on `hosts` (addresses or names) and for a client; it never outlives the authority.

        To Kubernetes a client's common name is its user name and its organizations are its groups.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
        subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        until = min(self._until, _now() + dt.timedelta(seconds=lifetime_s))
        certificate = (
            self._builder(subject, key.public_key(), until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return KeyPair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: dt.datetime
    ) -> x509.CertificateBuilder:
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(_now(), until) - dt.timedelta(seconds=BACKDATED_S))
            .not_valid_after(until)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority_key, critical=False)
        )


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is read out of one certificate. `since` and `until` are its validity."""

    pem: bytes
    since: float
    until: float
    hosts: frozenset[str]
    raw: x509.Certificate

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """The first certificate of a PEM text. Raises ValueError."""
        return cls._of(x509.load_pem_x509_certificate(pem))

    @classmethod
    def parse_all(cls, pem: bytes) -> "tuple[Self, ...]":
        """Every certificate of a PEM text, at least one. Raises ValueError."""
        return tuple(cls._of(each) for each in x509.load_pem_x509_certificates(pem))

    def issued_by(self, authority: "Certificate") -> bool:
        """Whether the authority's key has signed it."""
        try:
            self.raw.verify_directly_issued_by(authority.raw)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def belongs_to(self, key: bytes) -> bool:
        """Whether a private key (PEM) is this certificate's. Raises ValueError for what is not an EC key."""
        return self.raw.public_key() == _private_key(key).public_key()

    @classmethod
    def _of(cls, raw: x509.Certificate) -> Self:
        since, until = raw.not_valid_before_utc.timestamp(), raw.not_valid_after_utc.timestamp()
        pem = raw.public_bytes(serialization.Encoding.PEM)
        return cls(pem, since, until, _hosts(raw), raw)


def generate_key() -> bytes:
    """A private key in PEM, for signing service-account tokens."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _hosts(raw: x509.Certificate) -> frozenset[str]:
    try:
        names = raw.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return frozenset([*names.get_values_for_type(x509.DNSName), *addresses])


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except TypeError as error:  # it has a password
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an EC key")
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
