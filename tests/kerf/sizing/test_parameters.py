"""Parameters of every known family, as transformers 5.20.0's own classes count them (`make oracle`)."""

import pytest

from kerf.sizing.families import FAMILIES
from kerf.sizing.read import read_shape
from tests.kerf.sizing.models import NAMES, minimax_m3, oracle, row

TRUTH = oracle("parameters")


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_the_catalogue_has_the_parameters_of_its_class(name):
    assert read_shape(row(name)["config"]).params == TRUTH["catalogue"][name]


@pytest.mark.parametrize("kind", sorted(TRUTH["classes"]))
def test_a_familys_class_with_its_defaults_has_as_many(kind):
    found = TRUTH["classes"][kind]

    assert read_shape(found["config"]).params == found["params"]


def test_every_family_was_compared():
    compared = {read_shape(row(name)["config"]).family for name in NAMES}
    compared |= {read_shape(found["config"]).family for found in TRUTH["classes"].values()}

    compared |= {read_shape(minimax_m3()).family}  # below
    assert set(FAMILIES) - compared == {"lfm2_moe", "ministral"}  # their classes have no defaults that can be built


def test_minimax_m3_has_the_parameters_of_its_class():
    """By the constructors of transformers 5.20.0's minimax_m3_vl, run with layers that only count."""
    assert read_shape(minimax_m3()).params == 427_040_132_864


def test_the_table_names_its_package():
    assert TRUTH["package"] == "transformers 5.20.0"
