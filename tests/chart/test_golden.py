"""The chart's renders change only on purpose: `make chart-golden` writes them, and the review shows the difference."""

import pytest

from tests.chart import golden
from tests.chart.helm import GOLDEN

pytestmark = pytest.mark.chart


@pytest.mark.parametrize("name", golden.names())
def test_a_case_renders_as_it_was_reviewed(name):
    assert golden.text_of(name) == (GOLDEN / f"{name}.yaml").read_text(), "run `make chart-golden` and look at the diff"


def test_every_render_has_its_case():
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == golden.names()
