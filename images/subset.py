"""``subset.py LOCK NAMES`` prints the part of a lock that some packages need. Standard library only.

The lock (uv's, in pip's format) lists under each package what requires it (`# via`); this script follows these lists.
If it missed a package, pip would refuse to install: with `--require-hashes`, every package must be in the file.
"""

import re
import sys
from pathlib import Path

PINNED = re.compile(r"^([A-Za-z0-9._-]+)==")


def parse_lock(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Map each package to its lines and the packages that require it."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    nothing = ("", frozenset[str]())
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        if pinned := PINNED.match(block):
            _, _, via = block.partition("# via")
            parents = frozenset(re.findall(r"^[\s#]*([A-Za-z0-9._-]+)", via, flags=re.MULTILINE))
            name = pinned[1].lower()
            before, known = found.get(
                name, nothing
            )  # a package is listed twice where Python versions need different ones
            found[name] = (before + block, known | parents)
    return found


def subset(lock: str, names: list[str]) -> str:
    """The lock of these packages and of what they require. Raises KeyError for a package that is not locked."""
    packages = parse_lock(lock)
    needed = {name.lower() for name in names}
    for name in needed:
        packages[name]  # fail here for a package that is not locked, not in the image
    while more := {name for name, (_, parents) in packages.items() if parents & needed} - needed:
        needed |= more
    return "".join(packages[name][0] for name in sorted(needed))


def main() -> int:
    """Print the subset."""
    lock, names = (Path(argument).read_text() for argument in sys.argv[1:3])
    wanted = [line.partition("#")[0].strip() for line in names.splitlines()]
    sys.stdout.write(subset(lock, [name for name in wanted if name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
