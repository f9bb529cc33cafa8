"""The one matcher of card model names: tenants, pods, prices and models name cards by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerf.values.ask import Selection
from kerf.values.card_names import Match, canonical, listed, match, meant, nearest

H100 = "NVIDIA H100 80GB HBM3"
FLEET = (
    "NVIDIA A10",
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA A10G",
    H100,
    "NVIDIA L4",
    "NVIDIA L40",
    "NVIDIA L40S",
    "Tesla T4",
)


@pytest.mark.parametrize(
    ("written", "models"),
    [
        (H100, (H100,)),
        ("nvidia h100 80gb hbm3", (H100,)),
        ("NVIDIA-H100-80GB-HBM3", (H100,)),  # the label nvidia.com/gpu.product
        ("NVIDIA-H100-80GB-HBM3-SHARED", (H100,)),  # the same label where NVIDIA's plugin shares the card
        ("H100", (H100,)),
        ("a100_sxm4", ("NVIDIA A100-SXM4-40GB",)),
        ("A100-SXM", ("NVIDIA A100-SXM4-40GB",)),
        ("NVIDIA L4", ("NVIDIA L4",)),
        ("L4", ("NVIDIA L4",)),
        ("L40", ("NVIDIA L40",)),
        ("l40s", ("NVIDIA L40S",)),
        ("A10", ("NVIDIA A10",)),
        ("L", ("NVIDIA L4", "NVIDIA L40", "NVIDIA L40S", "Tesla T4")),
        ("nvidia", tuple(name for name in FLEET if name.startswith("NVIDIA"))),
        ("B200", ()),
        ("10", ("NVIDIA A10", "NVIDIA A10G")),
        (" - ", ()),
        ("", ()),
    ],
)
def test_a_written_name_means_the_models_that_match_it_best(written: str, models: tuple[str, ...]) -> None:
    assert meant(written, FLEET) == models


def test_a_part_never_cuts_through_a_number() -> None:
    assert meant("NVIDIA L4", ["NVIDIA L40S"]) == ()
    assert meant("A10", ["NVIDIA A100-SXM4-40GB"]) == ()
    assert meant("A10", ["NVIDIA A10G"]) == ("NVIDIA A10G",)


def test_an_exact_name_may_have_any_signs() -> None:
    assert match("RTX 6000/8000 (Quadro)", "RTX-6000/8000 (Quadro)") is Match.EXACT
    assert match("Quadro-RTX-60008000", "Quadro RTX 6000/8000") is Match.EXACT  # as a label has it


@pytest.mark.parametrize(
    ("model", "written", "best"),
    [
        (H100, ["H100", "H100 80GB", "A100"], "H100 80GB"),
        (H100, ["H100 80GB", H100.lower()], H100.lower()),
        ("NVIDIA L40S", ["L4", "L40"], "L40"),
        ("NVIDIA B200", ["H100", "A100"], None),
        ("", ["H100"], None),
    ],
)
def test_the_written_name_that_says_most_of_a_model_is_the_nearest(
    model: str, written: list[str], best: str | None
) -> None:
    assert nearest(model, written) == best


def test_a_list_for_people_is_short() -> None:
    assert listed([]) == "none"
    assert listed(["b", "a", "b"]) == "a, b"
    assert listed(str(i) for i in range(10)) == "0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


NAMES = st.text(st.sampled_from("aAlL40 -_."), max_size=8)


@given(NAMES, st.lists(NAMES, max_size=5))
def test_every_model_that_is_meant_matches_equally_well_and_no_other_matches_better(
    written: str, models: list[str]
) -> None:
    found = meant(written, models)

    best = max((match(written, model) for model in models), default=Match.NONE)
    assert set(found) == {model for model in models if best and match(written, model) is best}


@given(NAMES)
def test_a_name_means_itself_however_it_is_spelled(model: str) -> None:
    for spelled in (model, model.lower(), model.upper(), model.replace(" ", "-"), canonical(model)):
        assert match(spelled, model) is (Match.EXACT if canonical(model) else Match.NONE)


def test_a_pod_gets_the_model_that_its_type_names_best() -> None:
    alone = Selection(use_types=("l40",))
    among = alone.among(FLEET)

    assert alone.takes("NVIDIA L40S", "shared")
    assert not among.takes("NVIDIA L40S", "shared")
    assert among.takes("NVIDIA L40", "shared")
    assert Selection(avoid_types=("l40",)).among(FLEET).takes("NVIDIA L40S", "shared")
    assert Selection().among(FLEET) == Selection()
