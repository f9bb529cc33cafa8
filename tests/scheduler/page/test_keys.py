"""The keys that sign sessions: the leader makes and replaces them, and a session outlives one replacement."""

import base64
import threading

import pytest

from kerf.kube.errors import Unreachable
from kerf.testing.fake_kube import FakeKube
from kerf.wire.reviews import User
from kerf.wire.sessions import Session, parse_session, render_session
from sandbox import await_until
from scheduler.page.keys import AHEAD_S, LOOP, ROTATE_S, SECRET, PageKeys

PATH = f"/api/v1/namespaces/kerf-system/secrets/{SECRET}"


class World:
    """A leader and a follower beside one API server, and the time."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.kube = FakeKube()
        self.leader, self.follower = (self.keys(leads=leads) for leads in (True, False))

    def keys(self, *, leads: bool) -> PageKeys:
        return PageKeys(self.kube, "kerf-system", lambda: leads, lambda: self.now)

    def follow(self) -> None:
        """A round of each."""
        self.leader.run_once()
        self.follower.run_once()


def test_a_follower_makes_no_key_and_has_none_before_the_leader_makes_it():
    world = World()
    world.follower.run_once()

    assert (world.follower.keys, world.kube.writes) == ((), [])
    world.follow()
    assert world.follower.keys == world.leader.keys
    assert [len(key) for key in world.leader.keys] == [32]


def test_a_replica_that_is_elected_after_its_start_makes_the_key_soon():
    """Nobody can sign in before that."""
    answers, stop = iter((False, True)), threading.Event()
    keys = PageKeys(FakeKube(), "kerf-system", lambda: next(answers))
    thread = threading.Thread(target=keys.run, args=(stop,))
    thread.start()

    await_until(lambda: bool(keys.keys), "a key", LOOP.every_s / 2)
    stop.set()
    thread.join()


def test_the_key_is_kept_for_a_day_and_then_the_one_before_still_counts_for_a_day():
    world = World()
    world.follow()
    (first,) = world.leader.keys
    session = Session(User("ada"), int(world.now + 3 * ROTATE_S))
    cookie = render_session(session, first)

    world.now += ROTATE_S - 1
    world.follow()
    assert world.leader.keys == (first,)

    world.now += 1
    world.follow()
    second, before = world.leader.keys
    assert (before, world.follower.keys) == (first, (second, first))
    assert second != first
    assert parse_session(cookie, world.follower.keys, world.now) == session

    world.now += ROTATE_S
    world.follow()
    assert world.leader.keys[1] == second
    assert parse_session(cookie, world.follower.keys, world.now) is None


def test_a_new_leader_keeps_the_key_that_is_there():
    world = World()
    world.follow()
    successor = world.keys(leads=True)
    successor.run_once()

    assert successor.keys == world.leader.keys


@pytest.mark.parametrize(
    "data", [{}, {"current": "%"}, {"current": base64.b64encode(b"short").decode(), "made": "x"}, {"current": 5}]
)
def test_a_secret_whose_data_was_taken_away_ends_every_session_and_gets_a_key_without_the_old_one(data: object):
    world = World()
    world.follow()
    (first,) = world.leader.keys
    world.kube.put({**world.kube.get(PATH), "data": data})
    world.follower.run_once()
    assert world.follower.keys == ()

    world.follow()
    assert world.follower.keys == world.leader.keys
    assert len(world.leader.keys) == 1
    assert first not in world.leader.keys


def test_while_the_api_server_does_not_answer_the_keys_stay():
    world = World()
    world.follow()
    before = world.leader.keys

    def fails(method: str, path: str) -> None:
        raise Unreachable("no route")

    world.kube.fail = fails
    world.now += 2 * ROTATE_S
    for keys in (world.leader, world.follower):
        with pytest.raises(Unreachable):
            keys.run_once()

    assert world.leader.keys == world.follower.keys == before


def test_of_two_that_believe_to_lead_one_makes_the_key_and_both_have_it():
    world = World()
    other = world.keys(leads=True)
    fail = world.kube.fail

    def before_create(method: str, path: str) -> None:
        if method == "POST":
            world.kube.fail = fail
            other.run_once()

    world.kube.fail = before_create
    world.leader.run_once()
    world.leader.run_once()

    assert world.leader.keys == other.keys
    assert len(other.keys) == 1


def test_a_key_that_a_clock_far_ahead_made_is_replaced_at_once_and_one_of_a_clock_a_little_ahead_stays():
    world = World()
    world.now += AHEAD_S
    world.follow()
    (little,) = world.leader.keys
    world.now -= AHEAD_S
    world.follow()
    assert world.leader.keys == (little,)

    world.now -= 1
    world.follow()
    assert world.leader.keys[1] == little
    before = world.leader.keys
    world.follow()
    assert world.leader.keys == world.follower.keys == before
