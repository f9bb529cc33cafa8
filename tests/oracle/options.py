"""`make oracle`: which options of `vllm serve` take no value, and which take several, by vLLM's own parser.

Runs in a virtual environment of its own; writes the table that tests/kerf/sizing compares with ours.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import vllm.platforms
from vllm.platforms.cpu import CpuPlatform

vllm.platforms.current_platform = CpuPlatform()  # the parser asks what it runs on; options do not depend on it

from vllm.entrypoints.common.cli_args import make_arg_parser  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402


def main(out: Path) -> None:
    parser = make_arg_parser(FlexibleArgumentParser())
    found: dict[str, list[str]] = {"flags": [], "lists": [], "single": []}
    for action in parser._actions:
        kind = "flags" if action.nargs == 0 else "lists" if action.nargs in {"*", "+"} else "single"
        if isinstance(action, argparse.BooleanOptionalAction):
            kind = "flags"
        found[kind] += [text.lstrip("-").replace("_", "-") for text in action.option_strings]
    table = {"package": f"vllm {version('vllm')}", **{kind: sorted(set(names)) for kind, names in found.items()}}
    out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
