"""Texts that differ in the ids of cards alone: the first of each form is read, the others are filled in.

A fleet of 5,000 nodes has 45,000 annotations of a few forms.
"""

import re
from typing import Generic, TypeVar

Form = tuple[str, ...]
"""A text without its ids: what is before, between and behind them."""
Value = TypeVar("Value")
LONGEST = 16_384
"""Characters of a text that is split."""
MOST = 512
"""Forms that are remembered."""


class Forms(Generic[Value]):
    """What was read of each form of texts that have ids under `key`.

    An id is taken out of its text just as JSON would read it: a text with a backslash or of several lines has no form,
    and one that has the key in another way as well (with other spaces, as a value) is never kept.
    """

    def __init__(self, key: str) -> None:
        self._key = f'"{key}"'
        self._split = re.compile(rf'"{key}": ?"([ !#-\[\]-~]{{1,253}})"').split
        self._known: dict[tuple[Form, str | None], Value] = {}

    def split(self, text: str) -> tuple[Form, tuple[str, ...]] | None:
        """The form and the ids; None where there is no form."""
        if len(text) > LONGEST or "\\" in text or not text.isprintable():
            return None
        parts = self._split(text)
        return tuple(parts[::2]), tuple(parts[1::2])

    def get(self, form: Form, vendor: str | None) -> Value | None:
        """What was read of a text of this form, with this vendor for what names none."""
        return self._known.get((form, vendor))

    def keep(self, form: Form, vendor: str | None, value: Value) -> None:
        """Remember what was read, with the ids in the order in which the text has them."""
        if any(self._key in part for part in form):
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[form, vendor] = value
