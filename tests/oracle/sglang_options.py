"""`make oracle`: which options SGLang's own parser knows, and how many values each takes.

Runs in the same environment as vLLM's, with SGLang beside it but not its dependencies, which the parser does not use.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

from sglang.srt.server_args import ServerArgs


def main(out: Path) -> None:
    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    found: dict[str, list[str]] = {"flags": [], "lists": [], "single": []}
    for action in parser._actions:
        flag = action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction)
        kind = "flags" if flag else "lists" if action.nargs in {"*", "+"} else "single"
        found[kind] += [text.lstrip("-").replace("_", "-") for text in action.option_strings]
    table = {"package": f"sglang {version('sglang')}", **{kind: sorted(set(names)) for kind, names in found.items()}}
    out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
