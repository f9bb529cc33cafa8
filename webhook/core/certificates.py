"""What to do about the webhook's own certificates: a pure decision over what is held. Times are Unix seconds.

An authority is replaced in three steps, so that an API server trusts what any replica serves at any moment:

    ADD_AUTHORITY   the new one joins the bundle; the old one's certificate is still served
    ISSUE           once every API server must have seen the bundle, a certificate of the new one is served
    DROP_OLDER      once every certificate of the old one has ended, it leaves the bundle
"""

from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """What one round over the certificates has to do."""

    KEEP = "keep"
    CREATE = "create"
    """Nothing usable is held: a new authority and a certificate of it."""
    ADD_AUTHORITY = "add an authority"
    ISSUE = "issue a certificate"
    DROP_OLDER = "drop older authorities"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds."""

    certificate: float = 90 * 86_400.0
    authority: float = 5 * 365 * 86_400.0
    spread: float = 120.0
    """How long an API server may take to see a bundle that was injected, and a replica to serve a new certificate."""


@dataclass(frozen=True, slots=True)
class Span:
    """When something was made and when it ends."""

    made: float
    until: float

    def due(self, now: float) -> bool:
        """Whether two thirds of its life are over."""
        return now >= self.made + (self.until - self.made) * 2 / 3


@dataclass(frozen=True, slots=True)
class Held:
    """What the Secret holds, checked: the key belongs to the newest authority, the certificate to one of them."""

    authority: Span
    """The newest one; it issues."""
    older: tuple[Span, ...]
    certificate: Span
    issued_by_newest: bool
    hosts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Scene:
    """What else a decision depends on."""

    hosts: frozenset[str]
    """Names and addresses that the certificate must be good for."""
    injected: bool
    """Every webhook configuration carries the whole bundle that is held."""
    stored: bool = True
    """The Secret holds it; otherwise the Secret was lost and only this process still has it."""


def decide(held: Held | None, now: float, lifetimes: Lifetimes, scene: Scene) -> Step:
    """The next step."""
    if held is None or held.authority.until <= now:
        return Step.CREATE
    if not scene.stored:
        # Deleting the Secret asks for another key. The one in use stays trusted meanwhile.
        return Step.ADD_AUTHORITY
    if not held.issued_by_newest:
        trusted = scene.injected and now >= held.authority.made + lifetimes.spread
        return Step.ISSUE if trusted or held.certificate.until <= now else Step.KEEP
    if held.authority.due(now):
        return Step.ADD_AUTHORITY
    if held.certificate.due(now) or not scene.hosts <= held.hosts:
        return Step.ISSUE
    if held.older and _older_are_gone(held, now, lifetimes):
        return Step.DROP_OLDER
    return Step.KEEP


def _older_are_gone(held: Held, now: float, lifetimes: Lifetimes) -> bool:
    """Whether no certificate of an older authority can still be valid anywhere."""
    if all(span.until <= now for span in held.older):
        return True
    # The last of them was made before the newest authority first issued.
    return now >= held.authority.made + lifetimes.certificate + lifetimes.spread
