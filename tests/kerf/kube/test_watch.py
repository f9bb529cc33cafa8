"""Following a resource for ever: nothing is missed, whatever ends the watch."""

import threading
from collections.abc import Iterator

from kerf.kube.errors import Gone, NotFound, Unreachable
from kerf.kube.watch import Follower, StreamFollower


class Script:
    """A Kube whose lists and watches are played from a script; an exception in it is raised."""

    def __init__(self, lists: list, watches: list) -> None:
        self._lists, self._watches = iter(lists), iter(watches)
        self.done = threading.Event()

    def pages(self, path: str, query: object = None) -> Iterator:
        page = self._next(self._lists)
        yield page[:1], "1"
        yield page[1:], "1"

    def watch(self, path: str, version: str, query: object = None, timeout_s: int = 300) -> Iterator:
        yield from self._next(self._watches)

    def _next(self, script: Iterator) -> object:
        step = next(script, None)
        if step is None:
            self.done.set()
            threading.Event().wait()
        if isinstance(step, Exception):
            raise step
        return step


def item(name: str) -> dict:
    return {"metadata": {"name": name, "resourceVersion": "2"}}


def follow(lists: list, watches: list, **options: bool) -> list:
    """What the callbacks got, in order."""
    told: list = []
    script = Script(lists, watches)
    follower = Follower(
        script,
        "/things",
        lambda items: told.append(("list", [i["metadata"]["name"] for i in items])),
        lambda kind, thing: told.append((kind, thing["metadata"]["name"])),
        **options,
    )
    follower.start()
    assert script.done.wait(30)
    assert follower.synced.is_set()
    follower.stop()
    return told


def test_a_watch_that_ends_is_taken_up_where_it_ended():
    told = follow([[item("a")]], [[("ADDED", item("b"))], [("MODIFIED", item("b"))]])

    assert told == [("list", ["a"]), ("ADDED", "b"), ("MODIFIED", "b")]


def test_a_watch_that_is_too_old_is_listed_again():
    told = follow([[item("a")], [item("b")]], [Gone(410, "Expired", "too old")])

    assert told == [("list", ["a"]), ("list", ["b"])]


def test_an_api_server_that_does_not_answer_is_asked_again():
    told = follow([Unreachable("down"), [item("a")]], [Unreachable("cut"), [("DELETED", item("a"))]])

    assert told == [("list", ["a"]), ("DELETED", "a")]


def test_an_object_that_a_callback_cannot_take_does_not_end_the_watch(monkeypatch):
    monkeypatch.setattr("kerf.kube.watch.FIRST_PAUSE_S", 0.0)
    script = Script([[item("a")], [item("b")]], [[("ADDED", item("odd"))]])
    lists: list = []

    def change(kind: str, thing: dict) -> None:
        raise OverflowError(thing["metadata"]["name"])

    follower = Follower(script, "/things", lists.append, change)
    follower.start()

    assert script.done.wait(30)
    assert [[thing["metadata"]["name"] for thing in items] for items in lists] == [["a"], ["b"]]


def test_bookmarks_are_not_passed_on():
    assert follow([[]], [[("BOOKMARK", item("x")), ("ADDED", item("b"))]]) == [("list", []), ("ADDED", "b")]


def test_an_optional_resource_that_does_not_exist_counts_as_empty(monkeypatch):
    monkeypatch.setattr("kerf.kube.watch.LONGEST_PAUSE_S", 0.01)

    told = follow([NotFound(404, "NotFound", "no such kind"), [item("a")]], [], optional=True)

    assert told == [("list", []), ("list", ["a"])]


def test_a_list_from_elsewhere_hands_over_what_the_watch_has_not_brought_and_nothing_else():
    told: list = []
    script = Script([[item("a")]], [[("ADDED", item("b"))]])
    follower = Follower(
        script,
        "/things",
        lambda items: told.append("list"),
        lambda kind, thing: told.append((kind, thing["metadata"]["name"])),
    )
    follower.start()
    assert script.done.wait(30)  # it has seen version 2

    newer = {"metadata": {"name": "c", "resourceVersion": "3"}}
    follower.merge([item("a"), item("b"), newer], "5")
    follower.merge([newer], "2")

    assert told == ["list", ("ADDED", "b"), ("MODIFIED", "c")]
    assert (follower.reached("2"), follower.reached("3")) == (True, False)
    follower.stop()


def test_a_list_that_is_streamed_is_taken_in_while_it_is_read():
    got: list = []

    class Slow(Script):
        def pages(self, path: str, query: object = None) -> Iterator:
            for name in ("a", "b"):
                yield [item(name)], "1"
                got.append(f"read on after {name}")

    script = Slow([], [])
    replace = lambda items: got.extend(i["metadata"]["name"] for i in items)  # noqa: E731
    StreamFollower(script, "/things", replace, lambda kind, thing: None).start()

    assert script.done.wait(30)
    assert got == ["a", "read on after a", "b", "read on after b"]


def test_after_a_broken_connection_the_watch_goes_on_behind_the_last_event_that_was_passed_on() -> None:
    asked: list[str] = []

    class Breaks(Script):
        def watch(self, path: str, version: str, query: object = None, timeout_s: int = 300) -> Iterator:
            asked.append(version)
            for step in self._next(self._watches):
                if isinstance(step, Exception):
                    raise step
                yield step

    first, second = item("b"), {"metadata": {"name": "b", "resourceVersion": "7"}}
    script = Breaks([[item("a")]], [[("ADDED", first), ("MODIFIED", second), Unreachable("reset")], []])
    follower = Follower(script, "/things", lambda items: None, lambda kind, thing: None)
    follower.start()
    assert script.done.wait(30)
    follower.stop()

    assert asked == ["1", "7", "7"]
