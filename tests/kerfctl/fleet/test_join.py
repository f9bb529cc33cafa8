"""A join waits until the API server has taken the new rights up."""

from typing import Any

import pytest

from kerf.kube.errors import Forbidden
from kerf.testing.fake_kube import FakeKube
from kerf.wire.json import Json
from kerfctl.errors import CliError
from kerfctl.fleet.join import await_rights

RULES = ({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "patch"]},)


class Authorizer(FakeKube):
    """Answers reviews; it knows a right once it has been asked for it often enough."""

    def __init__(self, refusals: int, unknown_token: int = 0) -> None:
        super().__init__()
        self.refusals, self.unknown_token = refusals, unknown_token
        self.asked: list[tuple[str, str, str]] = []

    def create(self, path: str, body: object, query: Any = None) -> Json:
        assert isinstance(body, dict)
        if self.unknown_token:
            self.unknown_token -= 1
            raise Forbidden(401, "Unauthorized", "no such token")
        asked = body["spec"]["resourceAttributes"]
        self.asked.append((asked["verb"], asked["group"], asked["resource"]))
        self.refusals -= 1
        return {"status": {"allowed": self.refusals < 0}}


def test_a_join_asks_until_the_credential_may_do_all_that_the_manager_does() -> None:
    member = Authorizer(refusals=3, unknown_token=1)

    assert await_rights(member, RULES) == "the credential works"

    assert member.asked[-2:] == [("list", "apps", "deployments"), ("patch", "apps", "deployments")]
    assert set(member.asked) == {("list", "apps", "deployments"), ("patch", "apps", "deployments")}


def test_a_right_that_never_comes_is_named() -> None:
    with pytest.raises(CliError, match=r"kerf-fleet may not list deployments\.apps after 0 s"):
        await_rights(Authorizer(refusals=99), RULES, seconds=0.0)
