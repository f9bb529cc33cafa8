"""Tenants' accounts and classes of cards in their JSON form."""

from kerf.testing.builders import a_card
from kerf.values.accounts import ClassAccount, TenantAccount
from kerf.values.quota import Amount, Bound, class_of
from kerf.views.tenants import ClassLine, account_json, class_json


def test_a_class_has_what_its_cards_give_and_the_rest():
    line = ClassLine(class_of(a_card()), 4, Amount(320_000, 400, 4), Amount(80_000, 100, 1))

    assert class_json(line) == {
        "class": "nvidia-h100-80gb-hbm3-shared",
        "vendor": "nvidia",
        "model": "NVIDIA H100 80GB HBM3",
        "mode": "shared",
        "cards": 4,
        "total": {"memoryMiB": 320_000, "cores": 400, "cards": 4},
        "rest": {"memoryMiB": 80_000, "cores": 100, "cards": 1},
    }


def test_an_account_is_its_status_with_the_tenants_name():
    limit = Bound(8000, None, 1)
    entry = ClassAccount("slug", "nvidia", "H100", "shared", 80_000, 80_000, limit, limit, limit, used=Amount(10, 5, 1))

    found = account_json(TenantAccount("team", ("a", "b"), classes=(entry,), problems=("no such model",)))

    assert (found["name"], found["namespaces"], found["problems"]) == ("team", ["a", "b"], ["no such model"])
    assert found["classes"][0]["used"] == {"memoryMiB": 10, "cores": 5, "cards": 1}
    assert found["classes"][0]["limit"] == {"memoryMiB": 8000, "cards": 1}
    assert "observedGeneration" not in found
