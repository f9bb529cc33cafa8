"""Version requirements as catalogues write them: ">=v0.6.5", "^0.8, !=0.8.3", "0.9 || >=0.10"."""

import re

from kerf.wire.errors import WireError

Version = tuple[int, int, int]
LONGEST = 200
_ONE = re.compile(
    r"(>=|<=|==|!=|~=|>|<|=|\^|~)?\s*v?(\d{1,6})(?:\.(\d{1,6}|[x*]))?(?:\.(\d{1,6}|[x*]))?(?:(?:[-+]|\.(?=[a-z]))[0-9A-Za-z.+-]{1,64})?"
)
FIX = 'write a comparison such as ">=0.8.5", several with commas, or alternatives with ||'


def parse_version(text: str, field: str) -> Version:
    """A version, missing parts as 0. Raises WireError."""
    found = _ONE.fullmatch(text.strip()) if len(text) <= LONGEST else None
    if found is None or found[1] or "*" in text or "x" in text:
        raise WireError(field, text, 'write a version such as "0.33.0"')
    return (int(found[2]), int(found[3] or 0), int(found[4] or 0))


def satisfies(version: Version, requirement: str, field: str) -> bool:
    """Whether a version meets a requirement; an empty one is met by all. Raises WireError."""
    if len(requirement) > LONGEST:
        raise WireError(field, requirement, FIX)
    return any(_all(version, part, field, requirement) for part in requirement.split("||"))


def _all(version: Version, part: str, field: str, whole: str) -> bool:
    rest = part.strip()
    if rest in {"", "*"}:
        return True
    met = True
    while rest:
        found = _ONE.match(rest)
        if found is None:
            raise WireError(field, whole, FIX)
        met = _meets(version, found) and met
        after = rest[found.end() :]
        if after and after[0] not in ", \t":
            raise WireError(field, whole, FIX)
        rest = after.lstrip(", \t")
    return met


def _meets(version: Version, found: re.Match[str]) -> bool:
    sign, given = found[1] or "=", [part for part in (found[2], found[3], found[4]) if part not in {None, "x", "*"}]
    low = tuple(int(part) for part in given) + (0,) * (3 - len(given))
    match sign:
        case ">=":
            return version >= low
        case ">":
            return version > low and version[: len(given)] != low[: len(given)]
        case "<":
            return version < low
        case "<=":
            return version <= low or version[: len(given)] == low[: len(given)]
        case "!=":
            return version[: len(given)] != low[: len(given)]
        case "^":
            first = next((i for i, part in enumerate(low[: len(given)]) if part), len(given) - 1)
            return version >= low and version[: first + 1] == low[: first + 1]
        case "~" | "~=":
            kept = max(1, len(given) - 1) if sign == "~=" or len(given) > 2 else len(given)
            return version >= low and version[:kept] == low[:kept]
        case _:
            return version[: len(given)] == low[: len(given)]
