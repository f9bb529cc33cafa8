"""What each container gets of a pod's claims, and what cannot be kept."""

import pytest

from kerf.testing.builders import a_card, a_claim, a_claiming_pod
from kerf.values.claim import divide, grant_of
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.wire.claims import claim_uses, parse_claim


def granted(pod, *items):
    claims = {claim.name: claim for claim in map(parse_claim, items)}
    division = divide(claim_uses(pod), claims)
    return division.problem, grant_of(division, {"GPU-1": a_card(1)}, "nvidia")


def slices(*pieces):
    return tuple(Slice(f"GPU-{card}", "nvidia", mib, cores) for card, mib, cores in pieces)


def test_a_container_gets_what_its_claim_holds():
    assert granted(a_claiming_pod(main=["a"]), a_claim("a", ("gpu-0", 4096, 20))) == (
        "",
        Grant((ContainerGrant("main", slices((0, 4096, 20))),)),
    )


def test_a_whole_card_is_all_of_its_memory_and_cores():
    assert granted(a_claiming_pod(main=["a"]), a_claim("a", ("card-1", None, 0)))[1] == Grant(
        (ContainerGrant("main", slices((1, a_card(1).memory_mib, 100))),)
    )


def test_several_claims_and_requests_of_one_container_are_held_together():
    pod = a_claiming_pod(main=["a", "b/r1"], other=["b/r0"])

    problem, grant = granted(pod, a_claim("a", ("gpu-0", 1, 1)), a_claim("b", ("gpu-2", 2, 2), ("gpu-3", 3, 3)))

    assert (problem, {c.name: c.slices for c in grant.containers}) == (
        "",
        {"main": slices((0, 1, 1), (3, 3, 3)), "other": slices((2, 2, 2))},
    )


def test_a_claim_for_two_cards_gives_two_cards():
    claim = a_claim("a", ("gpu-0", 9, 9), ("gpu-3", 9, 9), requests=["gpu", "gpu"])

    assert granted(a_claiming_pod(main=["a/gpu"]), claim) == (
        "",
        Grant((ContainerGrant("main", slices((0, 9, 9), (3, 9, 9))),)),
    )


def test_an_init_container_and_the_app_may_use_one_slice_after_each_other():
    problem, grant = granted(a_claiming_pod(init=("setup",), setup=["a"], main=["a"]), a_claim("a", ("gpu-0", 9, 9)))

    assert (problem, [c.name for c in grant.containers]) == ("", ["setup", "main"])


@pytest.mark.parametrize(
    ("pod", "claim", "problem"),
    [
        (
            a_claiming_pod(main=["a"], second=["a"]),
            a_claim("a", ("gpu-0", 9, 9)),
            "containers main and second run together and name request r0 of claim a",
        ),
        (
            a_claiming_pod(main=["a"], second=["a/r1"]),
            a_claim("a", ("gpu-0", 9, 9), ("gpu-1", 9, 9)),
            "containers main and second name request r1 of claim a beside different others",
        ),
        (
            a_claiming_pod(main=["a"]),
            a_claim("a", ("gpu-0", 9, 9), ("gpu-0", 9, 9)),
            "container main got two slices of card GPU-0 (requests r0 and r1)",
        ),
    ],
)
def test_what_cannot_be_kept_is_said_and_yet_held(pod, claim, problem):
    said, grant = granted(pod, claim)

    assert said.startswith(problem)
    assert sum(len(c.slices) for c in grant.containers) == len(parse_claim(claim).shares)
    assert all(c.name.startswith("claim:") for c in grant.containers)


def test_what_no_container_names_is_held_all_the_same():
    claim = a_claim("a", ("gpu-0", 9, 9), ("gpu-1", 8, 8))

    assert granted(a_claiming_pod(main=["a/r0"]), claim)[1] == Grant(
        (ContainerGrant("main", slices((0, 9, 9))), ContainerGrant("claim:a/0", slices((1, 8, 8))))
    )
