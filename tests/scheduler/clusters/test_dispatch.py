"""The dispatcher's loop goes on whatever a round meets, and ends when it is stopped."""

import logging
import threading
from typing import Any

import pytest

from kerf.testing.fake_kube import FakeKube
from scheduler.clusters import dispatch
from scheduler.clusters.dispatch import Dispatcher
from scheduler.clusters.workers import Books
from tests.limiter.harness import eventually


def no_books(name: str) -> Books:
    raise AssertionError(name)


def no_client(config: Any) -> FakeKube:
    raise AssertionError(config)


def test_a_round_that_fails_is_logged_and_the_next_one_comes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kerf.dispatch")
    monkeypatch.setattr(dispatch, "LOOP", dispatch.Loop("dispatch", every_s=0.001, first_pause_s=0.001))
    dispatcher, stop, rounds = Dispatcher(FakeKube(), no_books, no_client), threading.Event(), []

    def once() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise KeyError("a workload without a name")

    monkeypatch.setattr(dispatcher, "run_once", once)
    thread = threading.Thread(target=dispatcher.run, args=(stop,))
    thread.start()

    eventually(lambda: len(rounds) > 2)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert "the round failed; retrying in 0.0 s" in caplog.text
