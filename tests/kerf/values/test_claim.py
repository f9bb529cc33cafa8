"""What each container gets of a pod's claims, and what cannot be kept."""

import pytest

from kerf.testing.builders import a_card, a_claim, a_claiming_pod, a_mig_card
from kerf.values.claim import divide, grant_of
from kerf.values.grant import ContainerGrant, Grant, Slice
from kerf.values.mig import place_at
from kerf.wire.claims import claim_uses, parse_claim


def granted(pod, *items):
    claims = {claim.name: claim for claim in map(parse_claim, items)}
    division = divide(claim_uses(pod), claims)
    return division.problem, grant_of(division, {"GPU-1": a_card(1), "GPU-5": a_mig_card(5)}, "nvidia")


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


def test_a_mig_instance_is_a_slice_at_its_place():
    piece = Slice("GPU-5", "nvidia", 40_448, 45, place_at(4, 4).adds)

    assert granted(a_claiming_pod(main=["a"]), a_claim("a", ("mig-5-9-4", None, 0))) == (
        "",
        Grant((ContainerGrant("main", (piece,)),)),
    )


def test_a_container_has_one_mig_instance_and_nothing_beside_it():
    problem, _ = granted(a_claiming_pod(main=["a"]), a_claim("a", ("mig-5-9-4", None, 0), ("gpu-1", 9, 9)))

    assert "a program uses one MIG instance" in problem


@pytest.mark.parametrize(
    ("device", "card", "problem"),
    [
        ("mig-5-9-4", a_mig_card(5), ""),
        ("gpu-1", a_card(1), ""),
        ("gpu-5", a_mig_card(5), "device gpu-5 is none of card GPU-5 in its present mode"),
        ("mig-1-9-4", a_card(1), "device mig-1-9-4 is none of card GPU-1 in its present mode"),
        ("mig-5-9-3", a_mig_card(5), "the driver makes no MIG instance for device mig-5-9-3"),
        ("mig-5-77-0", a_mig_card(5), "the driver makes no MIG instance for device mig-5-77-0"),
    ],
)
def test_a_device_of_another_mode_of_the_card_is_none(device, card, problem):
    amounts = (1, 1) if device.startswith("gpu") else (None, 0)
    (share,) = parse_claim(a_claim("a", (device, *amounts))).shares

    assert share.misplaced(card).startswith(problem)
    assert bool(share.misplaced(card)) == bool(problem)


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


def test_the_order_in_which_containers_name_their_requests_does_not_matter():
    pod = a_claiming_pod(init=("setup",), setup=["a/r1", "a/r0"], main=["a"])

    problem, grant = granted(pod, a_claim("a", ("gpu-0", 9, 9), ("gpu-1", 8, 8)))

    assert (problem, [len(c.slices) for c in grant.containers]) == ("", [2, 2])


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
