"""A quick value is the dataclass that it was, made faster."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from kerf.values.quick import quick


@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    size: int = 3


@quick
@dataclass(frozen=True, slots=True)
class Quick:
    name: str
    size: int = 3


def test_it_is_made_as_the_plain_one() -> None:
    for args, words in ((("a",), {}), (("a", 4), {}), ((), {"size": 5, "name": "b"})):
        made, plain = Quick(*args, **words), Plain(*args, **words)
        assert (made.name, made.size) == (plain.name, plain.size)
    with pytest.raises(TypeError, match="name"):
        Quick()  # type: ignore[call-arg]
    assert Quick.__init__.__annotations__ == Plain.__init__.__annotations__


def test_it_stays_frozen_and_a_value() -> None:
    one = Quick("a")

    with pytest.raises(FrozenInstanceError):
        one.name = "b"  # type: ignore[misc]
    assert one == Quick("a", 3) == replace(Quick("b"), name="a") == copy.copy(one) == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(Quick("a", 3))
