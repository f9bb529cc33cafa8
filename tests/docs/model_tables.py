"""The tables of docs/models.md, made from the code. `python -m tests.docs.model_tables` writes them into the page."""

import json
import re
from pathlib import Path

from kerf.sizing.cards import CARDS
from kerf.sizing.estimate import estimate, read_model
from kerf.sizing.families import FAMILIES
from kerf.sizing.quant import METHODS
from kerf.sizing.request import VERSIONS, Ask
from kerf.sizing.towers import TOWERS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "models.md"
ROWS = ROOT / "kerf" / "catalogue" / "rows"
LENGTH, AT_ONCE = 8192, 4


def catalogue() -> str:
    """A row for each model of the catalogue: on an H200, or on as many as it needs."""
    lines = [
        "| name | parameters | weights | cards | KV B/token | slice vLLM | slice SGLang | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(ROWS.glob("*.json")):
        row = json.loads(path.read_text())
        model = read_model(row["config"])
        length = min(LENGTH, model.context.most)
        vllm, sglang = (
            estimate(model, Ask(runtime=runtime, max_len=length, concurrency=AT_ONCE, card="H200"))
            for runtime in VERSIONS
        )
        numbers = (vllm.weights_mib, vllm.ranks.cards, vllm.plan.token_bytes, vllm.slice_mib, sglang.slice_mib)
        cells = [row["name"], f"{model.shape.params:,}", *(f"{one:,}" for one in numbers), row["source"].split()[0]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def formats() -> str:
    """What a 4,096 x 4,096 matrix takes in each format that a config can name."""
    from kerf.sizing.quant import ALGORITHMS

    lines = ["| format | bits per weight |", "|---|---|"]
    for name, form in ALGORITHMS.items():
        if form is not None:
            lines.append(f"| modelopt {name} | {form.stored(4096, 4096) * 8 / 4096**2:.3f} |")
    return "\n".join(lines)


def known() -> str:
    """Every name that is read."""
    return "\n".join(
        (
            f"- Decoders: {', '.join(sorted(FAMILIES))}.",
            f"- With a tower: {', '.join(sorted(TOWERS))}.",
            f"- Quantisation: {', '.join(METHODS)}.",
            f"- Cards: {', '.join(f'{card.name} ({card.mib:,} MiB)' for card in CARDS)}.",
        )
    )


TABLES = {"catalogue": catalogue, "formats": formats, "known": known}


def filled(page: str) -> str:
    """The page with every table written again."""
    for name, make in TABLES.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        table = make().replace("\\", r"\\")
        page, times = re.subn(pattern, rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL)
        assert times == 1, f"{PAGE.name} has {times} blocks for the table {name}"
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
