#!/usr/bin/env bash
# Package: prometheus-client 0.26.0, with which vLLM and SGLang serve /metrics (`vllm:…`, `sglang:…`), over HTTP.
# Behaviour: a colon is legal in a metric's name, so one would expect `vllm:prompt_tokens_total` to all who ask. The name
# depends on the Accept header. Who prefers OpenMetrics and does not say `escaping=allow-utf-8`, as Prometheus 2, gets
# `vllm_prompt_tokens_total`. The TYPE and HELP lines of the same answer keep the colon, so to the package's own parser
# the metric that has a type has no samples, and the one that has samples has no type. In plain text
# `escaping=underscores` keeps the colon.
# Output seen on 2026-11-28: see EXPECTED. The script fails if it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'prometheus-client==0.26.0'
cat > "$folder/probe.py" <<'PYTHON'
import urllib.request

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, parser, start_http_server
from prometheus_client.openmetrics import parser as openmetrics_parser

disable_created_metrics()
registry = CollectorRegistry()
Counter("vllm:prompt_tokens", "Tokens of prompts.", registry=registry).inc(7)
server, _ = start_http_server(0, "127.0.0.1", registry=registry)
OPEN = "application/openmetrics-text;version="
ASKS = {
    "nothing": None,
    "plain text": "text/plain;version=0.0.4",
    "plain text, underscores": "text/plain;version=1.0.0;escaping=underscores",
    "as Prometheus 2": f"{OPEN}1.0.0,{OPEN}0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "OpenMetrics, underscores": f"{OPEN}1.0.0;escaping=underscores",
    "OpenMetrics, UTF-8": f"{OPEN}1.0.0;escaping=allow-utf-8",
}
for title, accept in ASKS.items():
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/metrics")
    if accept:
        request.add_header("Accept", accept)
    with urllib.request.urlopen(request) as answer:
        read = openmetrics_parser if "openmetrics" in answer.headers["Content-Type"] else parser
        families = list(read.text_string_to_metric_families(answer.read().decode()))
    print(f"{title}:")
    for family in families:
        print(f"  {family.type} {family.name}, samples {[sample.name for sample in family.samples]}")
PYTHON
read -r -d '' EXPECTED <<'TEXT' || true
nothing:
  counter vllm:prompt_tokens, samples ['vllm:prompt_tokens_total']
plain text:
  counter vllm:prompt_tokens, samples ['vllm:prompt_tokens_total']
plain text, underscores:
  counter vllm:prompt_tokens, samples ['vllm:prompt_tokens_total']
as Prometheus 2:
  counter vllm:prompt_tokens, samples []
  unknown vllm_prompt_tokens_total, samples ['vllm_prompt_tokens_total']
OpenMetrics, underscores:
  counter vllm:prompt_tokens, samples []
  unknown vllm_prompt_tokens_total, samples ['vllm_prompt_tokens_total']
OpenMetrics, UTF-8:
  counter vllm:prompt_tokens, samples ['vllm:prompt_tokens_total']
TEXT
found=$("$folder/venv/bin/python" "$folder/probe.py")
echo "$found"
diff <(echo "$EXPECTED") <(echo "$found")
