"""MIG geometry against a brute-force model of a driver: every reachable set of instances of every known model."""

from itertools import combinations

import pytest

from kerf.probes.mig_models import GEOMETRIES, known_geometry
from kerf.testing.builders import a_card, a_mig_card, an_ask
from kerf.values.device import Card, Mode
from kerf.values.mig import FULL, STRANGE, Geometry, Instance, Profile, place_at, start_of
from kerf.values.places import first_free
from kerf.values.slicing import NotSliced, Placed, free_places, size_on, sizes
from scheduler.core.fit import ONE_INSTANCE, slice_of

H100, H200 = GEOMETRIES
FACTORY = {H100: 81_079, H200: 143_155}
Lies = tuple[str, int, int]
"""An instance as the brute-force model sees it: profile, first and one past the last memory slice."""


def card_of(model: str, *taken: Instance) -> Card:
    return a_mig_card(0, *taken, model=model, memory_mib=FACTORY[model])


def every_place(model: str) -> list[Lies]:
    """Written from the driver's placements by hand, apart from the code under test."""
    gb = {H100: ("10", "20", "20", "40", "40", "80"), H200: ("18", "35", "35", "71", "71", "141")}[model]
    names = [f"{slices}g.{size}gb" for slices, size in zip((1, 1, 2, 3, 4, 7), gb, strict=True)]
    spans = (
        [(i, i + 1) for i in range(7)],
        [(0, 2), (2, 4), (4, 6), (6, 8)],
        [(0, 2), (2, 4), (4, 6)],
        [(0, 4), (4, 8)],
        [(0, 4)],
        [(0, 8)],
    )
    return [(name, *span) for name, of in zip(names, spans, strict=True) for span in of]


def disjoint(lies: tuple[Lies, ...]) -> bool:
    return all(a[2] <= b[1] or b[2] <= a[1] for a, b in combinations(lies, 2))


def reachable(model: str) -> list[tuple[Lies, ...]]:
    """Every set of instances that creating one after the other can lead to, the empty one too."""
    found: list[tuple[Lies, ...]] = [()]
    for lies in found:
        for one in every_place(model):
            more = (*lies, one)
            if (not lies or one > lies[-1]) and disjoint(more):
                found.append(more)
    return found


@pytest.mark.parametrize("model", GEOMETRIES)
def test_from_every_reachable_set_each_create_and_delete_is_what_the_driver_says(model: str):
    card = card_of(model)
    offers = {size.name: size for size in card.slicing.offers}
    sets = reachable(model)

    assert len(sets) == len(set(sets)) > 500
    for lies in sets:
        used = sum(place_at(start, end - start).adds for _, start, end in lies)
        for name, start, end in every_place(model):
            allowed = disjoint((*lies, (name, start, end)))
            place = next(p for p in offers[name].places if start_of(p.adds) == start)
            assert (used & place.blocked == 0) is allowed
        for name, size in offers.items():
            some = any(disjoint((*lies, one)) for one in every_place(model) if one[0] == name)
            assert (first_free(size.places, used) is not None) is some
        for i, (_, start, end) in enumerate(lies):  # a delete gives back exactly what the others do not hold
            left = sum(place_at(s, e - s).adds for n, (_, s, e) in enumerate(lies) if n != i)
            assert used - place_at(start, end - start).adds == left


@pytest.mark.parametrize("model", GEOMETRIES)
def test_instances_that_fit_by_place_never_exceed_the_cards_memory_cores_or_slots(model: str):
    card = card_of(model)
    offers = {size.name: size for size in card.slicing.offers}

    for lies in reachable(model):
        held = [offers[name] for name, _, _ in lies]
        assert sum(size.memory_mib for size in held) <= card.memory_mib
        assert sum(size.cores for size in held) <= card.cores
        assert len(held) <= card.slots


@pytest.mark.parametrize("model", GEOMETRIES)
def test_instances_of_others_leave_what_a_card_with_them_has_left(model: str):
    """A card with an instance of another's, and a card on which Kerf placed the same, offer the same places."""
    whole = card_of(model)
    profiles = {profile.name: profile for profile in GEOMETRIES[model].profiles}
    for lies in reachable(model):
        taken = tuple(Instance(s, e - s, profiles[n].id, i) for i, (n, s, e) in enumerate(lies))
        left = card_of(model, *taken)
        used = sum(one.covers for one in taken)
        free = {size.name: set(free_places(size, whole, used)) for size in whole.slicing.offers}
        if isinstance(left.slicing, NotSliced):
            assert not any(free.values())
            assert (left.slicing.refusal, left.slots) == (FULL, 0)
            continue
        assert {size.name: set(size.places) for size in left.slicing.offers} == {n: p for n, p in free.items() if p}
        assert left.slots == max(map(len, free.values()))
        held = [whole.mig.profile_of(profiles[n].memory_mib, profiles[n].cores) for n, _, _ in lies]
        assert left.memory_mib == whole.memory_mib - sum(profile.memory_mib for profile in held)


@pytest.mark.parametrize(
    ("asked", "profile"),
    [
        ({"memory_mib": 1, "cores": 0}, "1g.10gb"),
        ({"memory_mib": 9_984, "cores": 12}, "1g.10gb"),
        ({"memory_mib": 9_985, "cores": 0}, "1g.20gb"),
        ({"memory_mib": 10_240, "cores": 19}, "1g.20gb"),
        ({"memory_mib": 8_000, "cores": 20}, "2g.20gb"),
        ({"memory_mib": 20_097, "cores": 0}, "3g.40gb"),
        ({"memory_mib": 40_448, "cores": 46}, "4g.40gb"),
        ({"memory_mib": 40_449, "cores": 0}, "7g.80gb"),
        ({"memory_mib": 8_000, "cores": 50}, "7g.80gb"),
        ({"memory_mib": 81_559, "cores": 100}, "7g.80gb"),
        ({"memory_percent": 12, "cores": 0}, "1g.10gb"),
        ({"memory_percent": 13, "cores": 0}, "1g.20gb"),
        ({"memory_percent": 50, "cores": 30}, "3g.40gb"),
        ({"memory_percent": 51, "cores": 0}, "7g.80gb"),
        ({"memory_percent": 100, "cores": 100}, "7g.80gb"),
    ],
)
def test_an_ask_gets_the_smallest_profile_that_holds_its_memory_and_cores(asked: dict[str, int], profile: str):
    card = a_mig_card()
    size = size_on(an_ask(**asked), card)

    assert size is not None
    assert size.name == profile


def test_the_whole_card_is_not_had_beside_an_instance_of_another():
    card = card_of(H100, Instance(6, 1, 19, 1))

    assert size_on(an_ask(memory_percent=100, cores=0), card) is None
    assert size_on(an_ask(memory_percent=100, cores=100), card) is None


def test_a_container_gets_one_instance_since_a_program_can_use_one():
    card = card_of(H100)

    assert sizes(an_ask(cards=2), card) == ()
    assert slice_of(an_ask(cards=2), card).detail == ONE_INSTANCE


@pytest.mark.parametrize("model", GEOMETRIES)
def test_a_slice_goes_where_it_spoils_least(model: str):
    """One after the other on an empty card; a 4g and a 7g stay possible as long as they can."""
    card = card_of(model)
    by_name = {size.name.split(".")[0] + ("+" if size.cores == 19 else ""): size for size in card.slicing.offers}
    used, lies = 0, []
    for name in ("1g", "1g", "1g", "2g", "2g"):
        place = free_places(by_name[name], card, used)[0]
        used += place.adds
        lies.append(start_of(place.adds))

    assert lies == [6, 4, 5, 0, 2]


def test_profiles_with_other_engines_are_not_given_but_count_where_they_exist():
    with_media = Instance(0, 1, 20, 7)
    card = card_of(H100, with_media)

    assert "1g.10gb+me" not in {size.name for size in card.slicing.offers}
    assert (card.memory_mib, card.cores, card.slots) == (81_152 - 9_984, 100 - 12, 6)


def test_a_driver_that_lists_nothing_useful_is_said_so():
    odd = Geometry((Profile(7, "2g.20gb+gfx", 20_000, 20, 2, (0, 2)),))

    assert odd.slicing == NotSliced(STRANGE)
    assert (odd.slots, odd.largest) == (0, None)


def test_profiles_that_do_not_nest_are_left_out_so_that_a_larger_one_never_fits_where_a_smaller_does_not():
    nested = Geometry((Profile(1, "1g.5gb", 5, 10, 1, (0, 1)), Profile(2, "2g.9gb", 9, 20, 2, (0, 4))))

    assert [profile.name for profile in nested.plain] == ["1g.5gb"]


def test_only_models_whose_placements_were_read_are_known():
    assert known_geometry("nvidia-h100-80gb-hbm3") == GEOMETRIES[H100]
    assert known_geometry("NVIDIA H100 PCIe") is None
    assert isinstance(GEOMETRIES[H200].slicing, Placed)


def test_a_card_in_mig_mode_without_a_geometry_is_not_sliced():
    assert "no MIG profiles" in a_card(mode=Mode.MIG).slicing.refusal
