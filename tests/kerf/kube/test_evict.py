"""The eviction path: one call, three outcomes, nothing raised."""

import pytest

from kerf.kube import paths
from kerf.kube.errors import Busy, Conflict, Forbidden, KubeError, NotFound, Unreachable
from kerf.kube.evict import AlreadyGone, Evicted, NotEvicted, evict
from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube

EVICTION = paths.eviction("default", "web")


def a_server_that_answers(error: KubeError) -> FakeKube:
    def fail(method: str, path: str) -> None:
        raise error

    kube = FakeKube(a_pod("web", uid="u1"))
    kube.fail = fail
    return kube


def test_a_pod_is_evicted_by_its_uid():
    kube = FakeKube(a_pod("web", uid="u1"))

    assert evict(kube, "default/web", "u1") == Evicted()

    assert kube.writes == [("POST", EVICTION)]
    assert kube.get(f"{EVICTION}/web")["deleteOptions"] == {"preconditions": {"uid": "u1"}}


def test_a_pod_that_does_not_exist_is_already_gone():
    kube = a_server_that_answers(NotFound(404, "NotFound", "pods web not found"))

    assert evict(kube, "default/web", "u1") == AlreadyGone()


@pytest.mark.parametrize(
    "error",
    [
        Busy(429, "TooManyRequests", "the disruption budget web needs 2 healthy pods"),
        Conflict(409, "Conflict", "the UID in the precondition does not match"),
        Forbidden(403, "Forbidden", "may not create pods/eviction"),
        Unreachable("connection refused"),
    ],
)
def test_an_eviction_that_is_not_confirmed_keeps_the_servers_reason(error: KubeError):
    assert evict(a_server_that_answers(error), "default/web", "u1") == NotEvicted(str(error))
