"""The one error of every codec: which field, which value, what to write instead."""

import reprlib


class WireError(ValueError):
    """Input that cannot be read. The message names the field, the value and the fix."""

    def __init__(self, field: str, value: object, fix: str) -> None:
        self.field = field
        self.value = value
        self.fix = fix
        super().__init__(f"{field}: {_short(value)}: {fix}")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else reprlib.repr(value)  # the plain repr of deep nesting would not return
    return repr(text if len(text) <= 80 else f"{text[:77]}…")
