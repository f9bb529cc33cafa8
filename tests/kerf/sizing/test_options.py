"""Which words of `vllm serve` are values of options, by vLLM 0.33.0's own parser (`make oracle`)."""

import pytest

from kerf.sizing.options import free_word
from kerf.sizing.vllm_options import FLAGS, LISTS
from tests.kerf.sizing.models import oracle

TRUTH = oracle("options")


def test_the_options_are_the_parsers() -> None:
    assert (TRUTH["package"], set(TRUTH["flags"]), set(TRUTH["lists"])) == ("vllm 0.33.0", set(FLAGS), set(LISTS))


@pytest.mark.parametrize("kind", ["flags", "lists", "single"])
def test_the_model_is_found_behind_every_option(kind: str) -> None:
    values = {"flags": [], "lists": ["a", "b"], "single": ["a"]}[kind]
    wrong = {}
    for name in TRUTH[kind]:
        option = f"--{name}" if len(name) > 1 else f"-{name}"
        behind = [option, *values, "--seed", "1", "org/model"]
        before = ["org/model", option, *values]
        found = free_word(behind), free_word(before)
        if found != ("org/model", "org/model"):
            wrong[name] = found

    assert wrong == {}
