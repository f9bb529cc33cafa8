"""`make licences`: list the licence of every shipped component, from the SBOM, and fail if one is not allowed.

The Go programs of `sandbox` (Kubernetes, containerd, kwok, …) are test tools. They are built on the developer's
machine and are in no image, wheel or SBOM of Kerf.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALLOWED = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    ]
)
"""Permissive licences, and MPL-2.0, which applies only to changed files; Kerf changes none."""
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
UNDECLARED = {"protobuf": "BSD-3-Clause"}
"""Packages whose metadata names no licence. These come from the package's LICENSE file."""


def main() -> int:
    """Return 1 if a component's licence is unknown or not allowed."""
    components = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["components"]
    refused = 0
    for component in sorted(components, key=lambda each: str(each["name"]).lower()):
        licences = licences_of(component)
        good = bool(licences) and all(allowed(licence) for licence in licences)
        refused += not good
        mark = "  " if good else "✗ "
        print(f"{mark}{component['name']:22} {component['version']:18} {', '.join(licences) or 'none declared'}")
    print(f"{len(components)} components, {refused} with a licence that is not allowed")
    return int(refused > 0)


def licences_of(component: Mapping[str, Any]) -> tuple[str, ...]:
    """SPDX expressions of a CycloneDX component. Exact trove classifiers are translated."""
    found: dict[str, None] = {}
    for entry in component.get("licenses") or ():
        licence = entry.get("license") or {}
        name = str(entry.get("expression") or licence.get("id") or licence.get("name") or "")
        classifier = name.removeprefix("License :: OSI Approved :: ")
        found[CLASSIFIERS.get(classifier, classifier)] = None
    if not found and component["name"] in UNDECLARED:
        return (UNDECLARED[component["name"]],)
    return tuple(found)


def allowed(expression: str) -> bool:
    """Whether allowed licences satisfy an SPDX expression: all parts of AND, any part of OR."""
    inner = re.compile(r"\(([^()]*)\)")
    while match := inner.search(expression):
        verdict = "MIT" if allowed(match[1]) else "not-allowed"
        expression = f"{expression[: match.start()]}{verdict}{expression[match.end() :]}"
    return any(all(part.strip() in ALLOWED for part in either.split(" AND ")) for either in expression.split(" OR "))


if __name__ == "__main__":
    sys.exit(main())
