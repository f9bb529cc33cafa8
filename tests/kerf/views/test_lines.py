"""Cards and pods as lines, and their JSON form."""

from dataclasses import replace

from kerf.testing.builders import a_card, a_grant
from kerf.values.grant import CardUse
from kerf.views.lines import CardLine, PodLine, RefusedLine, SliceLine, Tenant, card_lines, json_of, pod_line


def test_a_card_shows_what_is_used_of_it_and_which_pods_hold_it():
    first, second = a_card(0), a_card(1)
    held = [
        Tenant("team/a", {first.id: CardUse(8000, 30, 1)}),
        Tenant("default/b", {first.id: CardUse(2000, 10, 1)}),
    ]

    lines = card_lines("node-1", (first, second), (second.id,), held)

    assert [(line.card, line.used_mib, line.used_cores, line.slices, line.state, line.pods) for line in lines] == [
        (first.id, 10_000, 40, 2, "", ("b", "team/a")),
        (second.id, 0, 0, 0, "cordoned", ()),
    ]


def test_two_pods_of_one_name_are_both_counted():
    card = a_card(0)
    held = [Tenant("default/a", {card.id: CardUse(1000, 0, 1)})] * 2

    (line,) = card_lines("node-1", (card,), (), held)

    assert (line.used_mib, line.pods) == (2000, ("a", "a"))


def test_the_json_form_has_every_field_by_its_name():
    card = CardLine("node-1", 0, "GPU-0", "H100", 81_559, 8000, 100, 30, 1, "", ("chat",))
    pod = pod_line("team/chat", "Running", "node-1", a_grant())

    assert pod == PodLine("team", "chat", "Running", "node-1", (SliceLine("GPU-0", "nvidia", 8000, 30),))
    assert json_of([pod], [RefusedLine("team", "big", "no room")], [replace(card, state="unhealthy")]) == {
        "pods": [
            {
                "namespace": "team",
                "name": "chat",
                "phase": "Running",
                "node": "node-1",
                "slices": ({"card": "GPU-0", "vendor": "nvidia", "memory_mib": 8000, "cores": 30},),
            }
        ],
        "refused": [{"namespace": "team", "name": "big", "reason": "no room"}],
        "cards": [
            {
                "node": "node-1",
                "index": 0,
                "card": "GPU-0",
                "model": "H100",
                "memory_mib": 81_559,
                "used_mib": 8000,
                "cores": 100,
                "used_cores": 30,
                "slices": 1,
                "state": "unhealthy",
                "pods": ("chat",),
                "mode": "preload",
                "mode_note": "",
                "backend": "",
                "allocator": "extender",
                "parts": (),
                "free": (),
                "fault": "",
            }
        ],
    }
