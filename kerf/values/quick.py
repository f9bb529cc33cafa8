"""Values that are made by the ten thousand: a frozen dataclass whose constructor fills the slots by itself.

Python's own calls `object.__setattr__` for each field, which looks the name up in the class every time.
"""

from dataclasses import MISSING, fields
from typing import Any, TypeVar

Value = TypeVar("Value")


def quick(cls: type[Value]) -> type[Value]:
    """The same class; put it above `@dataclass(frozen=True, slots=True)`.

    Nothing else changes: values stay frozen, and type checkers see the dataclass. Raises TypeError for a class with a
    `__post_init__`, or with a field that has a factory, is no argument or is given by name alone.
    """
    listed = fields(cls)  # type: ignore[arg-type]  # it is a dataclass
    odd = [each.name for each in listed if not each.init or each.kw_only or each.default_factory is not MISSING]
    if odd or hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__}: {odd[0] if odd else '__post_init__'} needs the plain dataclass: drop @quick")
    names = [field.name for field in listed]
    own: Any = cls.__init__
    scope: dict[str, Any] = {f"_{name}": getattr(cls, name).__set__ for name in names}
    lines = [f"def __init__(self, {', '.join(names)}):", *(f"    _{name}(self, {name})" for name in names)]
    exec("\n".join(lines), scope)  # noqa: S102 (names of fields alone, as dataclasses does it)
    made = scope["__init__"]
    made.__defaults__, made.__annotations__ = own.__defaults__, own.__annotations__
    made.__qualname__, made.__module__ = own.__qualname__, own.__module__
    cls.__init__ = made  # type: ignore[method-assign]
    return cls
