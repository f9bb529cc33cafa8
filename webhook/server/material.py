"""The webhook's keys and certificates as one value, and the Secret that all replicas share."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kerf.http.pki import BACKDATED_S, Authority, Certificate, KeyPair
from kerf.wire.errors import WireError
from kerf.wire.json import Json
from webhook.core.certificates import Held, Lifetimes, Span, Step

NAME = "kerf-webhook"
BUNDLE, AUTHORITY_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
KEYS = (BUNDLE, AUTHORITY_KEY, CERTIFICATE, KEY)


@dataclass(frozen=True, slots=True)
class Material:
    """An authority with its key, older ones that are still trusted, and the certificate that is served."""

    authority: KeyPair
    older: tuple[bytes, ...]
    served: KeyPair

    @property
    def bundle(self) -> bytes:
        """Every authority that an API server has to trust, newest first, PEM."""
        return b"".join((self.authority.certificate, *self.older))

    def held(self) -> Held:
        """What a decision needs of it. Raises ValueError when the parts do not belong together."""
        newest, *older = Certificate.parse_all(self.bundle)
        leaf = Certificate.parse(self.served.certificate)
        if not newest.belongs_to(self.authority.key) or not leaf.belongs_to(self.served.key):
            raise ValueError("a key is not its certificate's")
        if not any(leaf.issued_by(each) for each in (newest, *older)):
            raise ValueError("the certificate is not issued by an authority of the bundle")
        spans = tuple(_span(each) for each in older)
        return Held(_span(newest), spans, _span(leaf), leaf.issued_by(newest), leaf.hosts)


def take(step: Step, material: Material | None, lifetimes: Lifetimes, hosts: tuple[str, ...]) -> Material:
    """The material after a step; `hosts` go into a certificate that is issued."""
    if material is None or step is Step.CREATE:
        authority = Authority(NAME, lifetimes.authority)
        return Material(authority.pair, (), _issue(authority, lifetimes, hosts))
    if step is Step.ADD_AUTHORITY:
        fresh = Authority(NAME, lifetimes.authority).pair
        return Material(fresh, (material.authority.certificate, *material.older), material.served)
    if step is Step.ISSUE:
        return replace(material, served=_issue(Authority(kept=material.authority), lifetimes, hosts))
    if step is Step.DROP_OLDER:
        return replace(material, older=())
    return material


def parse_secret(secret: Json) -> Material | None:
    """What a Secret holds, None if it is empty. Raises WireError if it is broken or another program's."""
    data = secret.get("data")
    if not isinstance(data, Mapping) or not any(data.get(key) for key in KEYS):
        return None
    parts = {key: _decode(data.get(key), key) for key in KEYS}
    try:
        newest, *older = Certificate.parse_all(parts[BUNDLE])
        material = Material(
            KeyPair(newest.pem, parts[AUTHORITY_KEY]),
            tuple(each.pem for each in older),
            KeyPair(parts[CERTIFICATE], parts[KEY]),
        )
        material.held()
    except ValueError as error:
        raise WireError("data", str(error), "delete the Secret, the webhook makes another") from error
    return material


def is_foreign(secret: Json) -> bool:
    """Whether a Secret holds a certificate without its authority's key: another program made it and renews it."""
    data = secret.get("data")
    return isinstance(data, Mapping) and bool(data.get(CERTIFICATE)) and not data.get(AUTHORITY_KEY)


def render_data(material: Material) -> dict[str, str]:
    """A Secret's `data`."""
    parts = (material.bundle, material.authority.key, material.served.certificate, material.served.key)
    return {key: base64.b64encode(part).decode() for key, part in zip(KEYS, parts, strict=True)}


def _issue(authority: Authority, lifetimes: Lifetimes, hosts: tuple[str, ...]) -> KeyPair:
    return authority.issue(NAME, hosts=hosts, lifetime_s=lifetimes.certificate)


def _span(certificate: Certificate) -> Span:
    return Span(certificate.since + BACKDATED_S, certificate.until)


def _decode(value: object, key: str) -> bytes:
    try:
        return base64.b64decode(str(value or ""), validate=True)
    except binascii.Error as error:
        raise WireError(f"data[{key}]", "not base64", "delete the Secret, the webhook makes another") from error
