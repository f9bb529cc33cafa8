"""Every example in docs/policies.md is a policy."""

import re
from pathlib import Path

import pytest
import yaml

from kerf.values.policy import SchedulingPolicy
from kerf.wire.policy import CARD_FILTERS, CARD_ORDERS, NODE_POLICIES, parse_policy

PAGE = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_valid(example: str) -> None:
    assert isinstance(parse_policy(yaml.safe_load(example)), SchedulingPolicy)


def test_the_first_example_is_the_default() -> None:
    assert parse_policy(yaml.safe_load(EXAMPLES[0])) == SchedulingPolicy()


@pytest.mark.parametrize("word", [*NODE_POLICIES, *CARD_ORDERS, *CARD_FILTERS])
def test_every_policy_is_described(word: str) -> None:
    assert f"`{word}`" in PAGE
