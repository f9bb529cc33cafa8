#!/usr/bin/env bash
# Package: transformers 5.20.0 (config classes only; no torch, no network after the install).
# Behaviour: a config.json that leaves out num_key_value_heads does not get one KV head per attention head in every family.
# llama, phi3 and olmo2 do that. qwen2, qwen3 and exaone4 always take 32, mistral and mixtral 8, qwen3_moe 4 and
# starcoder2 2, whatever num_attention_heads says: a 16-head qwen2 gets more KV heads than it has attention heads, with
# no error and no warning. A KV cache that is sized from the file alone is wrong by up to the ratio of the two.
# Output seen on 2026-11-27: see EXPECTED. The script fails if any line of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'transformers==5.20.0'
cat > "$folder/probe.py" <<'PYTHON'
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

for family in ("llama", "phi3", "olmo2", "qwen2", "qwen3", "exaone4", "mistral", "mixtral", "qwen3_moe", "starcoder2"):
    config = CONFIG_MAPPING[family].from_dict({"hidden_size": 1024, "num_attention_heads": 16})
    print(f"{family}: 16 attention heads, {config.num_key_value_heads} KV heads")
PYTHON
read -r -d '' EXPECTED <<'TEXT' || true
llama: 16 attention heads, 16 KV heads
phi3: 16 attention heads, 16 KV heads
olmo2: 16 attention heads, 16 KV heads
qwen2: 16 attention heads, 32 KV heads
qwen3: 16 attention heads, 32 KV heads
exaone4: 16 attention heads, 32 KV heads
mistral: 16 attention heads, 8 KV heads
mixtral: 16 attention heads, 8 KV heads
qwen3_moe: 16 attention heads, 4 KV heads
starcoder2: 16 attention heads, 2 KV heads
TEXT
found=$(HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=critical "$folder/venv/bin/python" "$folder/probe.py" 2>/dev/null | grep 'KV heads')
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
