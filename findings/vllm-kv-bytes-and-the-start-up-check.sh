#!/usr/bin/env bash
# Package: vllm 0.33.0 (its wheel alone: the function below is run out of its own source, so no GPU and no torch).
# Behaviour: --kv-cache-memory-bytes is documented to make --gpu-memory-utilization irrelevant to the size of the cache, so
# one would leave the latter at its default. But the start-up check never looks at it: request_memory still wants
# ceil(total x utilization) bytes free, 0.92 of the card by default. In a slice of 2,400 MiB whose CUDA context (516 MiB,
# as on an H100) is charged to it, a server that asks for 64 MiB of cache does not start; with a utilization of 0.75 it does.
# Output seen on 2026-11-27: see the last lines. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/lib" 'vllm==0.33.0'
cat > "$folder/probe.py" <<'PYTHON'
import ast
import math
import sys
from pathlib import Path
from types import SimpleNamespace

tree = ast.parse((Path(sys.argv[1]) / "vllm/v1/worker/utils.py").read_text())
function = next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "request_memory")
function.returns = None
for one in function.args.args:
    one.annotation = None
names = {"math": math, "format_gib": lambda size: f"{size / 2**30:.2f}", "logger": SimpleNamespace(info_once=print)}
exec(compile(ast.Module([function], []), "request_memory", "exec"), names)

MIB = 2**20
snapshot = SimpleNamespace(total_memory=2400 * MIB, free_memory=(2400 - 516) * MIB, device_="cuda:0")
for utilization in (0.92, 0.75):
    cache = SimpleNamespace(gpu_memory_utilization=utilization, kv_cache_memory_bytes=64 * MIB)
    try:
        names["request_memory"](snapshot, cache)
    except ValueError:
        print(f"utilization {utilization}: refused")
    else:
        print(f"utilization {utilization}: starts")
print("looks at kv_cache_memory_bytes:", "kv_cache_memory_bytes" in ast.unparse(function))
PYTHON
read -r -d '' EXPECTED <<'TEXT' || true
utilization 0.92: refused
utilization 0.75: starts
looks at kv_cache_memory_bytes: False
TEXT
found=$("$folder/venv/bin/python" "$folder/probe.py" "$folder/lib")
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
