"""Local copies of objects: several paths of one kind, what is not kept, and what counts as a change."""

from collections.abc import Iterator
from contextlib import contextmanager

from kerf.kube.client import Json
from kerf.kube.mirror import Mirror
from kerf.testing.builders import a_pod
from kerf.testing.fake_kube import FakeKube
from sandbox.processes import await_until

BOTH = {f"/api/v1/namespaces/{name}/pods": "Pod" for name in ("team-a", "team-b")}


@contextmanager
def mirrored(kube: FakeKube) -> Iterator[Mirror]:
    """The pods of two teams that have the label `app`."""
    mirror = Mirror(kube, BOTH, keeps=lambda pod: "app" in pod["metadata"]["labels"])
    mirror.start()
    try:
        await_until(lambda: mirror.synced, "the lists")
        yield mirror
    finally:
        mirror.stop()


def a_labelled(namespace: str, name: str, *labels: str) -> Json:
    return a_pod(name, namespace=namespace, labels=dict.fromkeys(labels, "x"))


def names(mirror: Mirror) -> list[str]:
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in mirror.items("Pod")]


def test_the_paths_of_one_kind_are_one_list():
    kube = FakeKube(a_labelled("team-b", "one", "app"), a_labelled("team-a", "two", "app"), a_labelled("c", "x", "app"))

    with mirrored(kube) as mirror:
        assert names(mirror) == ["team-a/two", "team-b/one"]
        assert (mirror.get("Pod", "one", "team-b") or {})["metadata"]["uid"] == "uid-team-b-one"
        assert mirror.get("Pod", "one", "team-a") is None

        kube.remove("/api/v1/namespaces/team-b/pods/one")
        await_until(lambda: names(mirror) == ["team-a/two"], "the end of a pod")


def test_what_is_not_kept_is_not_held_and_changes_nothing():
    kube = FakeKube(a_labelled("team-a", "one", "app"), a_labelled("team-a", "two"))

    with mirrored(kube) as mirror:
        version = mirror.version
        mirror.changed.clear()
        kube.put(a_labelled("team-a", "two", "other"))
        kube.remove("/api/v1/namespaces/team-a/pods/two")
        kube.put(a_labelled("team-a", "three", "app"))  # in order, so once it is there the others were seen
        await_until(mirror.changed.is_set, "the pod that is kept")
        assert (names(mirror), mirror.version) == (["team-a/one", "team-a/three"], version + 1)

        kube.put(a_labelled("team-a", "one"))
        await_until(lambda: mirror.version == version + 2, "the label that is gone")
        assert names(mirror) == ["team-a/three"]


def test_a_write_of_the_owner_counts_until_something_newer_is_seen_and_what_is_older_changes_nothing():
    mirror = Mirror(FakeKube(), {"/things": "Thing"})

    def a_thing(version: int) -> Json:
        return {"kind": "Thing", "metadata": {"name": "one", "resourceVersion": str(version)}}

    mirror.apply("/things", "MODIFIED", a_thing(9))
    mirror.changed.clear()
    mirror.apply("/things", "MODIFIED", a_thing(8))
    mirror.apply("/things", "DELETED", a_thing(8))
    assert (mirror.items(), mirror.changed.is_set(), mirror.version) == ([a_thing(9)], False, 1)
    mirror.apply("/things", "MODIFIED", a_thing(10))
    assert mirror.items() == [a_thing(10)]
    mirror.apply("/things", "DELETED", a_thing(10))

    assert (mirror.items(), mirror.version) == ([], 3)
