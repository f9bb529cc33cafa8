"""When certificates are made, renewed and given up, and that no API server ever stops trusting what is served."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.core.certificates import Held, Lifetimes, Scene, Span, Step, decide

DAY = 86_400.0
LIVES = Lifetimes(certificate=90 * DAY, authority=900 * DAY, spread=120.0)
HOSTS = frozenset({"kerf-webhook.kerf.svc"})
SCENE = Scene(HOSTS, injected=True)


def held(**changes: object) -> Held:
    """An authority of 900 days and a certificate of 90 days, both made at 0."""
    fresh = Held(Span(0, 900 * DAY), (), Span(0, 90 * DAY), issued_by_newest=True, hosts=HOSTS)
    return replace(fresh, **changes)


def test_nothing_held_means_making_everything() -> None:
    assert decide(None, 0, LIVES, SCENE) is Step.CREATE


def test_an_authority_that_has_ended_is_as_good_as_none() -> None:
    assert decide(held(), 900 * DAY, LIVES, SCENE) is Step.CREATE


@pytest.mark.parametrize(("day", "step"), [(0, Step.KEEP), (59, Step.KEEP), (60, Step.ISSUE), (95, Step.ISSUE)])
def test_a_certificate_is_renewed_when_two_thirds_are_over(day: int, step: Step) -> None:
    assert decide(held(), day * DAY, LIVES, SCENE) is step


def test_a_certificate_for_other_names_is_replaced() -> None:
    assert decide(held(), DAY, LIVES, replace(SCENE, hosts=HOSTS | {"10.0.0.7"})) is Step.ISSUE
    assert decide(held(hosts=HOSTS | {"10.0.0.7"}), DAY, LIVES, SCENE) is Step.KEEP


def test_a_new_authority_joins_when_two_thirds_are_over() -> None:
    aged = held(certificate=Span(599 * DAY, 689 * DAY))

    assert decide(aged, 599 * DAY, LIVES, SCENE) is Step.KEEP
    assert decide(aged, 600 * DAY, LIVES, SCENE) is Step.ADD_AUTHORITY


JOINED = held(
    authority=Span(600 * DAY, 1500 * DAY),
    older=(Span(0, 900 * DAY),),
    certificate=Span(599 * DAY, 689 * DAY),
    issued_by_newest=False,
)


@pytest.mark.parametrize(
    ("seconds", "injected", "step"),
    [(119, True, Step.KEEP), (120, True, Step.ISSUE), (DAY, False, Step.KEEP), (89 * DAY, False, Step.ISSUE)],
    ids=["not seen everywhere", "seen everywhere", "not injected", "the old certificate has ended"],
)
def test_a_new_authority_issues_once_every_api_server_trusts_it(seconds: float, injected: bool, step: Step) -> None:
    assert decide(JOINED, 600 * DAY + seconds, LIVES, replace(SCENE, injected=injected)) is step


def test_an_old_authority_leaves_when_its_last_certificate_has_ended() -> None:
    issued = replace(JOINED, certificate=Span(689 * DAY, 779 * DAY), issued_by_newest=True)

    assert decide(issued, 690 * DAY + 119, LIVES, SCENE) is Step.KEEP
    assert decide(issued, 690 * DAY + 120, LIVES, SCENE) is Step.DROP_OLDER


def test_a_lost_secret_brings_a_new_authority_beside_the_one_in_use() -> None:
    assert decide(held(), DAY, LIVES, replace(SCENE, stored=False, injected=False)) is Step.ADD_AUTHORITY


@given(
    certificate=st.floats(1, 400), authority=st.floats(1, 4000), spread=st.floats(0, 0.2), rounds=st.integers(2, 200)
)
def test_what_is_served_is_always_valid_and_always_trusted(
    certificate: float, authority: float, spread: float, rounds: int
) -> None:
    """Lives in days. The world applies every step at once; looks are a fraction of the shortest life apart."""
    lives = Lifetimes(certificate, authority, min(spread, certificate / 10, authority / 10))
    pause, now = min(certificate, authority) / 20, 0.0
    world: Held | None = None
    seen: list[tuple[float, Span]] = []  # authorities and when each became trusted
    for _ in range(rounds):
        while (step := decide(world, now, lives, SCENE)) is not Step.KEEP:
            world = applied(step, world, now, lives)
            seen = [(at, span) for at, span in seen if span in (world.authority, *world.older)]
            if world.authority not in [span for _, span in seen]:
                seen.append((now, world.authority))
        assert world
        issuers = [(at, span) for at, span in seen if span == issuer(world)]
        assert issuers, "an authority left the bundle while its certificate is served"
        assert now < world.certificate.until <= issuers[0][1].until
        now += pause


def issuer(world: Held) -> Span:
    return world.authority if world.issued_by_newest else world.older[0]


def applied(step: Step, world: Held | None, now: float, lives: Lifetimes) -> Held:
    fresh = Span(now, now + lives.authority)
    if world is None or step is Step.CREATE:
        return Held(fresh, (), Span(now, min(now + lives.certificate, fresh.until)), True, HOSTS)
    if step is Step.ADD_AUTHORITY:
        return replace(world, authority=fresh, older=(world.authority, *world.older), issued_by_newest=False)
    if step is Step.ISSUE:
        until = min(now + lives.certificate, world.authority.until)
        return replace(world, certificate=Span(now, until), issued_by_newest=True)
    return replace(world, older=())
