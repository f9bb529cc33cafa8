"""Quantities: Kubernetes notation to exact integers, and numbers for people."""

from fractions import Fraction
from functools import lru_cache

MIB = 1024 * 1024

_SUFFIXES: dict[str, Fraction] = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(1024),
    "Mi": Fraction(1024**2),
    "Gi": Fraction(1024**3),
    "Ti": Fraction(1024**4),
    "Pi": Fraction(1024**5),
    "Ei": Fraction(1024**6),
}
_DIGITS = frozenset("0123456789.")
_LONGEST = 64  # characters; longer than any quantity the API server stores


def parse_quantity(text: object) -> Fraction:
    """Read a Kubernetes quantity exactly: "3k", "1.5Gi", "250m", "1e3", 4000.

    The API server rewrites "3000" as "3k", so digits alone must never be assumed.
    Raises ValueError with the offending text.
    """
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        raise ValueError(f"not a quantity but of type {type(text).__name__}")
    return _parse(str(text).strip())


@lru_cache(maxsize=8192)
def _parse(raw: str) -> Fraction:
    """Remembered: a cluster writes the same few quantities tens of thousands of times."""
    if len(raw) > _LONGEST:
        raise ValueError(f"not a quantity: {raw[:16]!r}… ({len(raw)} characters)")
    sign, body = (-1, raw[1:]) if raw[:1] == "-" else (1, raw.removeprefix("+"))
    end = next((i for i, char in enumerate(body) if char not in _DIGITS), len(body))
    number, suffix = body[:end], body[end:]
    if not number.strip(".") or number.count(".") > 1:
        raise ValueError(f"not a quantity: {raw!r}")
    scale = _SUFFIXES.get(suffix)
    if scale is None:
        scale = _exponent(suffix, raw)
    return sign * Fraction(number.rstrip(".") if number.endswith(".") else number) * scale


def _exponent(suffix: str, raw: str) -> Fraction:
    digits = suffix[1:].removeprefix("+")
    sign = digits.startswith("-")
    digits = digits.removeprefix("-")
    if suffix[:1] not in {"e", "E"} or not digits.isascii() or not digits.isdigit() or int(digits) > 18:
        raise ValueError(f"not a quantity: {raw!r}")
    return Fraction(10) ** (-int(digits) if sign else int(digits))


def parse_whole(text: object, *, most: int = 2**31 - 1) -> int:
    """Read a quantity that must be a whole number from 0 to `most`. Raises ValueError."""
    value = parse_quantity(text)
    if value.denominator != 1:
        raise ValueError(f"{text} is not a whole number")
    if not 0 <= value <= most:
        raise ValueError(f"{text} is outside 0..{most}")
    return int(value)


def milli(text: object) -> int:
    """CPU quantity in thousandths of a core, rounded up as Kubernetes does."""
    value = parse_quantity(text)
    return -(-value.numerator * 1000 // value.denominator)


def to_mib(text: object) -> int:
    """Byte quantity in MiB, rounded up."""
    value = parse_quantity(text)
    return -(-value.numerator // (value.denominator * MIB))


def show(number: int) -> str:
    """A number for people: 28400 → "28,400"."""
    return f"{number:,}"


def show_mib(mib: int) -> str:
    """Memory for people, always in MiB so that it can be compared with what was asked: "8,000 MiB"."""
    return f"{mib:,} MiB"
