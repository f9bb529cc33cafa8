"""The API server's questions about people: who a token belongs to, and what a user may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kerf.wire.errors import WireError
from kerf.wire.json import Json, at

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 (a path)
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody as the API server knows them."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What is asked about: a verb on a resource, in one namespace or ("") in all."""

    verb: str
    group: str
    resource: str
    namespace: str = ""


def render_token_review(token: str, audience: str = "") -> dict[str, Any]:
    """The question who a token belongs to, if it is meant for this audience; without one, for the API server."""
    spec = {"token": token, "audiences": [audience]} if audience else {"token": token}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}


def parse_token_review(document: Json, audience: str = "") -> User | None:
    """The token's user; None where the API server does not know it, or does not say that it has this audience."""
    status = at(document, "status")
    if status.get("authenticated") is not True or status.get("error"):
        return None
    if audience and audience not in _texts(status.get("audiences")):
        return None
    return parse_user(at(status, "user"))


def parse_user(document: Json) -> User | None:
    """A user as TokenReview has it; None for one without a name."""
    name = document.get("username")
    if not isinstance(name, str) or not name:
        return None
    extra = at(document, "extra")
    uid = document.get("uid")
    return User(
        name,
        uid if isinstance(uid, str) else "",
        _texts(document.get("groups")),
        tuple(sorted((str(key), _texts(values)) for key, values in extra.items())),
    )


def render_user(user: User) -> dict[str, Any]:
    """The user as TokenReview has it."""
    return {"username": user.name, **_details(user)}


def render_access_review(user: User, action: Action) -> dict[str, Any]:
    """The question whether the user may do this."""
    where = {"namespace": action.namespace} if action.namespace else {}
    spec: dict[str, Any] = {
        "user": user.name,
        **_details(user),
        "resourceAttributes": {"verb": action.verb, "group": action.group, "resource": action.resource, **where},
    }
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}


def parse_access_review(document: Json) -> bool:
    """Whether it is allowed. A denial, an error and an odd answer are a no."""
    status = at(document, "status")
    return status.get("allowed") is True and status.get("denied") is not True


def parse_sign_in(document: object) -> str:
    """The token of `{"token": …}`. Raises WireError."""
    token = document.get("token") if isinstance(document, Mapping) else None
    if not isinstance(token, str) or not token.strip():
        raise WireError("token", "", 'give a Kubernetes token as {"token": "…"}')
    return token.strip()


def _details(user: User) -> dict[str, Any]:
    extra = {key: list(values) for key, values in user.extra}
    found = {"uid": user.uid, "groups": list(user.groups), "extra": extra}
    return {key: value for key, value in found.items() if value}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()
