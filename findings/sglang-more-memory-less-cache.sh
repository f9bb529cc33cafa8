#!/usr/bin/env bash
# Package: sglang 0.5.23 (its wheel alone: the functions below are run out of its own source, so no GPU and no torch).
# Behaviour: one would expect a server on a larger card, or in a larger slice of one, to have at least as much room for
# weights and KV cache. Without --mem-fraction-static SGLang works out its share of what the card reports, and what it
# keeps back grows by leaps: at 20, 60 and 160 GiB it prefills in larger chunks and captures larger batches. So 60.1 GiB
# leave 6.3 GiB less than 59.9 do, and it takes more than 66 to have as much again; 160.1 leave 12.5 GiB less than 159.9.
# Output seen on 2026-11-28: see EXPECTED. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/lib" 'sglang==0.5.23'
cat > "$folder/probe.py" <<'PYTHON'
import ast
import copy
import sys
from pathlib import Path
from types import SimpleNamespace as Some

SOURCES = Path(sys.argv[1]) / "sglang/srt/arg_groups"
WANTED = {
    "memory_hook.py": ("handle_gpu_memory_settings", "reserve_for_graph_mb"),
    "cuda_graph_hook.py": ("generate_prefill_cuda_graph_batch_sizes", "generate_decode_cuda_graph_batch_sizes"),
}


def functions() -> list[ast.FunctionDef]:
    """SGLang's own functions, without their imports and annotations."""
    found = []
    for file, names in WANTED.items():
        tree = ast.parse((SOURCES / file).read_text())
        found += [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name in names]
    for one in found:
        one.returns = None
        one.body = [line for line in one.body if not isinstance(line, ast.ImportFrom)]
        for argument in one.args.args:
            argument.annotation = None
    return found


def resolved(gib: float) -> Some:
    """The arguments of a server of one text model on one such card, as its defaults come out. Graphs as on CUDA."""
    server = Some(device="cuda", model_path="m", tp_size=1, pp_size=1, chunked_prefill_size=None)
    vars(server).update(mem_fraction_static=None, max_running_requests=None, max_total_tokens=None)
    vars(server).update(speculative_algorithm=None, disaggregation_mode="null", moe_a2a_backend="none")
    vars(server).update(disable_cuda_graph_padding=False, language_only=False, language_model_only=False)
    decode, prefill = (Some(backend=backend, max_bs=None, bs=None) for backend in ("full", "breakable"))
    vars(server).update(enable_symm_mem=False, cuda_graph_config=Some(decode=decode, prefill=prefill))
    names = {
        "copy": copy,
        "Backend": Some(BREAKABLE="breakable", DISABLED="disabled"),
        "Phase": Some(PREFILL="prefill"),
        "get_device_memory_capacity": lambda device: gib * 1024,
        "get_platform": lambda: Some(is_xpu=False),
        "resolving_view": lambda arguments: arguments,
        "resolved_view": lambda arguments: arguments,
        "declare_resolution": lambda arguments, who, **values: vars(arguments).update(values),
        "model_config_of": lambda arguments: Some(is_multimodal=False),
        "expand_multimodal_decode_graph_to_running_limit": lambda *_: None,
        "reserve_for_deepep_a2a_mb": lambda arguments: 0,
    }
    for no in ("use_mla_backend", "attn_dp_enabled_of", "post_capture_kv_sizing_planned"):
        names[no] = lambda arguments: False
    exec(compile(ast.Module(functions(), []), "sglang", "exec"), names)
    names["handle_gpu_memory_settings"](server)
    return server


for gib in (19.9, 20.1, 59.9, 60.1, 67, 79.6, 159.9, 160.1):
    server = resolved(gib)
    share = server.mem_fraction_static
    print(f"{gib} GiB: chunks of {server.chunked_prefill_size}, {share} for weights and cache: {gib * share:.1f} GiB")
PYTHON
read -r -d '' EXPECTED <<'TEXT' || true
19.9 GiB: chunks of 2048, 0.801 for weights and cache: 15.9 GiB
20.1 GiB: chunks of 4096, 0.646 for weights and cache: 13.0 GiB
59.9 GiB: chunks of 4096, 0.882 for weights and cache: 52.8 GiB
60.1 GiB: chunks of 8192, 0.774 for weights and cache: 46.5 GiB
67 GiB: chunks of 8192, 0.797 for weights and cache: 53.4 GiB
79.6 GiB: chunks of 8192, 0.829 for weights and cache: 66.0 GiB
159.9 GiB: chunks of 8192, 0.915 for weights and cache: 146.3 GiB
160.1 GiB: chunks of 16384, 0.836 for weights and cache: 133.8 GiB
TEXT
found=$("$folder/venv/bin/python" "$folder/probe.py" "$folder/lib")
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
