"""The limiter's layers: a file uses its own layer and those below it, by its includes and by the symbols it needs."""

import re
import subprocess

from tests.limiter.harness import BUILD, LIMITER

SRC = LIMITER / "src"
LAYERS = ("base", "ledger", "arbiter", "driver", "nvml", "cuda")
"""From the bottom up."""

HEADERS = {"base": {"base/base.h"}, "driver": {"driver/driver.h", "driver/hooks.def"}}
"""The only files of these layers that other files include; the other layers have one header, `LAYER/LAYER.h`."""

HOOKS = set(re.findall(r"^(?:CUDA|NVML)_HOOK\((\w+)", (SRC / "driver" / "hooks.def").read_text(), re.MULTILINE))


def includes() -> list[tuple[str, str]]:
    """(file, what it includes) for every include of our own, both relative to src/."""
    return [
        (str(path.relative_to(SRC)), found)
        for path in sorted(SRC.glob("*/*.[ch]"))
        for found in re.findall(r'#include "([^"]+)"', path.read_text())
    ]


def layer(path: str) -> int:
    return LAYERS.index(path.split("/", maxsplit=1)[0])


def symbols(kind: str) -> dict[str, set[str]]:
    """Names that each layer's objects define ("defined") or ask for ("undefined")."""
    return {
        name: set(
            re.findall(
                r"^\S*\s*[A-Z] (\w+)$",
                subprocess.run(
                    ["nm", f"--{kind}-only", "--extern-only", *sorted((BUILD / name).glob("*.o"))],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout,
                re.MULTILINE,
            )
        )
        for name in LAYERS
    }


def test_a_file_includes_its_own_layer_and_those_below() -> None:
    upward = [
        (path, found) for path, found in includes() if not found.startswith("kerf/") and layer(found) > layer(path)
    ]

    assert upward == []


def test_other_layers_see_one_header() -> None:
    private = [
        (path, found)
        for path, found in includes()
        if not found.startswith("kerf/")
        and layer(found) != layer(path)
        and found not in HEADERS.get(name := LAYERS[layer(found)], {f"{name}/{name}.h"})
    ]

    assert private == []


def test_no_layer_links_to_one_above_it() -> None:
    defined, undefined = symbols("defined"), symbols("undefined")
    upward = {
        (name, symbol, above)
        for i, name in enumerate(LAYERS)
        for above in LAYERS[i + 1 :]
        for symbol in undefined[name] & defined[above]
    }

    assert {(name, symbol) for name, symbol, _ in upward if symbol not in HOOKS} == {
        ("ledger", "kerf_reclaimers"),
        ("driver", "kerf_rooms"),
    }
    assert {name for name, symbol, _ in upward if symbol in HOOKS} == {"driver"}, (
        "only bind.c takes the address of wrappers"
    )


def test_a_decision_needs_nothing() -> None:
    """decide.c stays pure: it includes its own header only, and links to nothing."""
    asked = subprocess.run(
        ["nm", "--undefined-only", BUILD / "arbiter" / "decide.o"], capture_output=True, text=True, check=True
    )

    assert asked.stdout.strip() == ""
    assert [found for path, found in includes() if path == "arbiter/decide.c"] == ["arbiter/decide.h"]
