"""What HAMi leaves on nodes and pods is read in every form that its versions write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.ask import Stage, Stages
from kerf.values.device import Card, Mode
from kerf.values.grant import ContainerGrant, Grant, Slice, card_uses
from kerf.values.health import HEALTHY, SUSPECT
from kerf.values.vendor import recorded_grant
from kerf.vendors.registry import NAMES, VENDORS
from kerf.wire.errors import WireError
from kerf.wire.hami import parse_allocated, parse_register

KEY = "hami.io/node-nvidia-register"
ALLOCATED = "hami.io/vgpu-devices-allocated"
MODES = {Mode.SHARED: "hami-core", Mode.MIG: "mig", Mode.MPS: "mps"}
IDS = st.integers(0, 99).map(lambda i: f"GPU-{i}")
REGISTERED = st.lists(
    st.builds(
        Card,
        id=IDS,
        index=st.integers(0, 15),
        vendor=st.just("nvidia"),
        model=st.sampled_from(["NVIDIA-NVIDIA A100", "Tesla V100"]),
        memory_mib=st.integers(1, 2**31 - 1),
        cores=st.integers(1, 100),
        slots=st.integers(1, 50),
        numa=st.integers(0, 7),
        mode=st.sampled_from(Mode),
        health=st.sampled_from((HEALTHY, SUSPECT)),
    ),
    max_size=5,
    unique_by=lambda card: card.id,
).map(lambda cards: tuple(sorted(cards, key=lambda card: (card.index, card.id))))


def as_json(cards: tuple[Card, ...]) -> str:
    """HAMi since 2.8: Go's omitempty leaves out zeros, false and empty texts."""
    records: list[dict[str, Any]] = [
        {
            "id": card.id,
            "index": card.index,
            "count": card.slots,
            "devmem": card.memory_mib,
            "devcore": card.cores,
            "type": card.model,
            "numa": card.numa,
            "mode": MODES[card.mode],
            "health": card.healthy,
        }
        for card in cards
    ]
    return json.dumps([{key: value for key, value in record.items() if value} for record in records])


def as_colons(cards: tuple[Card, ...]) -> str:
    """HAMi up to 2.7, with nine fields a device."""
    return "".join(
        f"{c.id},{c.slots},{c.memory_mib},{c.cores},{c.model},{c.numa},{str(c.healthy).lower()},{c.index},{MODES[c.mode]}:"
        for c in cards
    )


@given(REGISTERED)
def test_both_registrations_are_read_alike(cards: tuple[Card, ...]) -> None:
    assert parse_register(as_json(cards), KEY, "nvidia") == cards
    assert parse_register(as_colons(cards), KEY, "nvidia") == cards


def test_seven_fields_take_index_from_the_position_and_share() -> None:
    text = "GPU-a,10,81920,100,NVIDIA-A,1,true:GPU-b,10,81920,100,NVIDIA-A,0,false:"

    assert parse_register(text, KEY, "nvidia") == (
        Card("GPU-a", 0, "nvidia", "NVIDIA-A", 81_920, numa=1),
        Card("GPU-b", 1, "nvidia", "NVIDIA-A", 81_920, health=SUSPECT),
    )


def test_order_of_the_records_does_not_matter() -> None:
    one, two = (f'{{"id":"GPU-{i}","index":{i},"devmem":1,"type":"NVIDIA"}}' for i in (1, 2))

    assert parse_register(f"[{one},{two}]", KEY, "nvidia") == parse_register(f"[{two},{one}]", KEY, "nvidia")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", f"{KEY}: '[1]': write a JSON list of devices"),
        ('[{"id":"a","type":"t","mode":"x"}]', f"{KEY}[0].mode: 'x': use hami-core, mig or mps"),
        ('[{"id":"a","type":"t","devmem":-1}]', f"{KEY}[0].devmem: '-1': write a whole number from 0 to 2147483647"),
        ('[{"id":"a","type":"t","devmem":"x"}]', f"{KEY}[0].devmem: 'x': write a whole number"),
        ("a,b", f"{KEY}: 'a,b': write 7 or 9 comma-separated fields a device"),
    ],
)
def test_a_malformed_registration_names_the_field_and_the_fix(text: str, message: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_register(text, KEY, "nvidia")

    assert str(caught.value) == message


def test_a_card_that_is_registered_twice_is_refused() -> None:
    record = '{"id":"GPU-1","devmem":1,"type":"NVIDIA"}'

    with pytest.raises(WireError, match="give every card its own id"):
        parse_register(f"[{record},{record}]", KEY, "nvidia")


def test_a_registration_is_bounded() -> None:
    records = [{"id": f"GPU-{i}", "devmem": 1, "type": "NVIDIA"} for i in range(257)]

    with pytest.raises(WireError, match="register at most 256 cards"):
        parse_register(json.dumps(records), KEY, "nvidia")


def read(text: str, stages: Stages) -> Grant:
    return recorded_grant(parse_allocated(text, ALLOCATED, NAMES[0], stages), VENDORS, ())


STAGES = st.lists(st.sampled_from([Stage.INIT, Stage.SIDECAR]), max_size=3).flatmap(
    lambda initial: st.integers(1, 3).map(
        lambda apps: tuple((f"c{i}", stage) for i, stage in enumerate([*initial, *[Stage.APP] * apps]))
    )
)


@st.composite
def allocations(draw: st.DrawFn) -> tuple[Stages, Grant]:
    stages = draw(STAGES)
    containers = []
    for name, _ in stages:
        cards = draw(st.lists(IDS, max_size=2, unique=True))
        slices = tuple(Slice(card, "nvidia", draw(st.integers(0, 9000)), draw(st.integers(0, 100))) for card in cards)
        containers.append(ContainerGrant(name, slices))
    return stages, Grant(tuple(containers))


def as_places(grant: Grant, *, empty: bool = True) -> str:
    """HAMi's record; without `empty` as HAMi 2.10 writes it, which loses the places of containers without devices."""
    places = ["".join(f"{s.card},NVIDIA,{s.memory_mib},{s.cores}:" for s in held.slices) for held in grant.containers]
    return "".join(f"{place};" for place in places if place or empty)


@given(allocations())
def test_a_documented_record_is_read_container_by_container(pod: tuple[Stages, Grant]) -> None:
    stages, grant = pod

    assert read(as_places(grant), stages) == Grant(
        tuple(container for container in grant.containers if container.slices)
    )


@given(allocations())
def test_a_record_with_lost_places_never_counts_too_little(pod: tuple[Stages, Grant]) -> None:
    stages, grant = pod
    counted = card_uses(read(as_places(grant, empty=False), stages), stages)

    for card, use in card_uses(grant, stages).items():
        assert counted[card].peak(use) == counted[card]


def test_a_lost_place_cannot_be_claimed_by_a_containers_name() -> None:
    stages = (("#0", Stage.INIT), ("a", Stage.APP), ("b", Stage.APP))

    held = read("GPU-1,NVIDIA,5,0:;GPU-1,NVIDIA,7,0:;", stages)

    assert [container.name for container in held.containers] == ["#0", "#1"]  # "#" is in no container's name


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("GPU-1,NVIDIA,5:;", "write UUID,vendor,MiB,cores"),
        (",NVIDIA,5,0:;", "write UUID,vendor,MiB,cores"),
        ("GPU-1,NVIDIA,x,0:;", "write MiB and cores as whole numbers"),
        ("GPU-1,NVIDIA,5,101:;", "write MiB from 0 and cores from 0 to 100"),
        ("GPU-1,NVIDIA,-5,0:;", "write MiB from 0 and cores from 0 to 100"),
    ],
)
def test_a_malformed_record_names_the_fix(text: str, fix: str) -> None:
    with pytest.raises(WireError) as caught:
        parse_allocated(text, ALLOCATED, NAMES[0], (("main", Stage.APP),))

    assert caught.value.fix == fix
