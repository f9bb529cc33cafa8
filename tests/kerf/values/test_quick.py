"""A quick value is the dataclass that it was, made faster."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

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


@pytest.mark.parametrize("options", [{"default_factory": dict}, {"init": False, "default": 1}, {"kw_only": True}])
def test_a_field_that_it_would_fill_in_wrongly_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Odd: sizes needs the plain dataclass"):

        @quick
        @dataclass(frozen=True, slots=True)
        class Odd:
            sizes: Any = field(**options)


def test_a_class_that_checks_itself_is_refused() -> None:
    with pytest.raises(TypeError, match="Checked: __post_init__ needs the plain dataclass"):

        @quick
        @dataclass(frozen=True, slots=True)
        class Checked:
            name: str

            def __post_init__(self) -> None:
                raise ValueError(self.name)
