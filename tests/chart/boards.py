"""The Grafana boards: ``python -m tests.chart.boards`` writes them into the chart from the rows below."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "charts" / "kerf" / "dashboards"
WIDTH, HEIGHT = 8, 7
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Panel = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""Title, kind, unit, and (query, legend) of each line."""

HELD = "sum by (class) (rate(kerf_usage_vgpu_seconds_total[10m]))"
HELD_PART = f"{HELD} / sum by (class) (rate(kerf_card_seconds_total[10m]))"

FLEET: tuple[Panel, ...] = (
    ("Cards", "stat", "short", (("sum(count by (card) (kerf_node_card_healthy))", ""),)),
    ("Unhealthy cards", "stat", "short", (("count(kerf_node_card_healthy == 0) or vector(0)", ""),)),
    ("Pods that wait", "stat", "short", (("max(kerf_waiting_pods)", ""),)),
    (
        "Card memory in use",
        "timeseries",
        "bytes",
        (("sum(kerf_node_card_used_bytes)", "used"), ("sum(kerf_container_memory_limit_bytes >= 0)", "granted")),
    ),
    (
        "Cards held, by class",
        "timeseries",
        "short",
        (("sum by (class) (rate(kerf_usage_vgpu_seconds_total[10m]))", "{{class}}"),),
    ),
    (
        "Part of the cards that is held",
        "timeseries",
        "percentunit",
        (
            (
                HELD_PART,
                "{{class}}",
            ),
        ),
    ),
    (
        "Cost an hour: allocated and idle",
        "timeseries",
        "short",
        (
            ("sum(rate(kerf_usage_cost_total[10m])) * 3600", "allocated"),
            ("(sum(rate(kerf_card_cost_total[10m])) - sum(rate(kerf_usage_cost_total[10m]))) * 3600", "idle"),
        ),
    ),
    (
        "Cost an hour, by tenant",
        "timeseries",
        "short",
        (("topk(10, sum by (tenant) (rate(kerf_usage_cost_total[10m]))) * 3600", "{{tenant}}"),),
    ),
    (
        "Why nodes are refused",
        "timeseries",
        "short",
        (("sum by (reason) (rate(kerf_scheduler_refusals_total[10m]))", "{{reason}}"),),
    ),
    ("Binds", "timeseries", "short", (("sum by (outcome) (rate(kerf_scheduler_binds_total[10m]))", "{{outcome}}"),)),
    (
        "Time to answer, 99th percentile",
        "timeseries",
        "s",
        (
            (
                "histogram_quantile(0.99, sum by (le, verb) (rate(kerf_scheduler_request_seconds_bucket[10m])))",
                "{{verb}}",
            ),
        ),
    ),
    ("Plans and preemptions", "timeseries", "short", (
        ("sum by (adopted) (increase(kerf_plans_total[1h]))", "plans: {{adopted}}"),
        ("sum(increase(kerf_preempted_pods_total[1h]))", "preempted pods"),
    )),
)  # fmt: skip

TENANT: tuple[Panel, ...] = (
    (
        "Memory: guaranteed, limit, used, pending (MiB)",
        "timeseries",
        "short",
        (
            ('sum by (class) (kerf_quota_guaranteed{tenant=~"$tenant",resource="memory_mib"})', "guaranteed {{class}}"),
            ('sum by (class) (kerf_quota_limit{tenant=~"$tenant",resource="memory_mib"})', "limit {{class}}"),
            ('sum by (class) (kerf_quota_used{tenant=~"$tenant",resource="memory_mib"})', "used {{class}}"),
            ('sum by (class) (kerf_quota_pending{tenant=~"$tenant",resource="memory_mib"})', "pending {{class}}"),
        ),
    ),
    (
        "Cards held, by workload",
        "timeseries",
        "short",
        (
            (
                'topk(15, sum by (namespace, workload) (rate(kerf_usage_vgpu_seconds_total{tenant=~"$tenant"}[10m])))',
                "{{namespace}}/{{workload}}",
            ),
        ),
    ),
    (
        "Cost of the last 24 hours, by workload",
        "table",
        "short",
        (
            (
                'sum by (namespace, workload, model) (increase(kerf_usage_cost_total{tenant=~"$tenant"}[24h]))',
                "",
            ),
        ),
    ),
    (
        "Cost an hour, by model",
        "timeseries",
        "short",
        (('sum by (model) (rate(kerf_usage_cost_total{tenant=~"$tenant"}[10m])) * 3600', "{{model}}"),),
    ),
    (
        "Price of a million tokens",
        "timeseries",
        "short",
        (("max by (model, kind) (kerf_model_price_per_million_tokens)", "{{model}} {{kind}}"),),
    ),
    (
        "Recommended replicas",
        "timeseries",
        "short",
        (
            ("max by (namespace, name) (kerf_recommended_replicas)", "{{namespace}}/{{name}}"),
            ("max by (namespace, name, reason) (kerf_missing_replicas)", "missing {{namespace}}/{{name}}: {{reason}}"),
        ),
    ),
    (
        "Requests that wait",
        "timeseries",
        "short",
        (("max by (namespace, name) (kerf_engine_waiting_requests)", "{{namespace}}/{{name}}"),),
    ),
    (
        "KV cache in use",
        "timeseries",
        "percentunit",
        (("max by (namespace, name) (kerf_engine_kv_use_ratio)", "{{namespace}}/{{name}}"),),
    ),
)

NODE: tuple[Panel, ...] = (
    (
        "Memory: used of granted, by container",
        "timeseries",
        "percentunit",
        (
            (
                "topk(15, kerf_container_memory_used_bytes / (kerf_container_memory_limit_bytes > 0))",
                "{{namespace}}/{{pod}} {{card}}",
            ),
        ),
    ),
    (
        "Granted and never used (bytes)",
        "table",
        "bytes",
        (("topk(20, (kerf_container_memory_limit_bytes >= 0) - kerf_container_memory_peak_bytes)", ""),),
    ),
    (
        "GPU time, by container",
        "timeseries",
        "percentunit",
        (("topk(15, rate(kerf_container_gpu_seconds_total[5m]))", "{{namespace}}/{{pod}} {{card}}"),),
    ),
    (
        "Time that launches waited",
        "timeseries",
        "percentunit",
        (("topk(15, rate(kerf_container_throttled_seconds_total[5m]))", "{{namespace}}/{{pod}} {{card}}"),),
    ),
    (
        "Allocations refused at the limit",
        "timeseries",
        "short",
        (("sum by (namespace, pod) (increase(kerf_container_denied_total[10m])) > 0", "{{namespace}}/{{pod}}"),),
    ),
    (
        "Used past the limiter, and outside pods",
        "timeseries",
        "bytes",
        (
            ("kerf_container_overuse_bytes > 0", "{{namespace}}/{{pod}}"),
            ("kerf_node_card_foreign_bytes > 0", "outside pods, {{card}}"),
        ),
    ),
    ("Health of cards", "table", "short", (("min by (card, model) (kerf_node_card_healthy)", ""),)),
    (
        "Containers started and refused",
        "timeseries",
        "short",
        (("sum by (result) (increase(kerf_node_starts_total[10m]))", "{{result}}"),),
    ),
)

BOARDS = {
    "fleet": ("Kerf fleet", FLEET, ()),
    "tenant": ("Kerf tenant", TENANT, (("tenant", "label_values(kerf_usage_vgpu_seconds_total, tenant)"),)),
    "node": ("Kerf node and limiter", NODE, ()),
}


def board(name: str) -> dict[str, Any]:
    """A board in Grafana's JSON."""
    title, panels, variables = BOARDS[name]
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    asked = [
        {
            "name": variable,
            "type": "query",
            "query": query,
            "datasource": SOURCE,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
            "refresh": 2,
        }
        for variable, query in variables
    ]
    return {
        "uid": f"kerf-{name}",
        "title": title,
        "tags": ["kerf"],
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": [source, *asked]},
        "panels": [panel(i, each) for i, each in enumerate(panels)],
    }


def panel(position: int, one: Panel) -> dict[str, Any]:
    title, kind, unit, lines = one
    targets = [
        {
            "refId": chr(ord("A") + i),
            "expr": query,
            "legendFormat": legend,
            "datasource": SOURCE,
            **({"instant": True, "format": "table"} if kind == "table" else {}),
        }
        for i, (query, legend) in enumerate(lines)
    ]
    place = {"x": position % 3 * WIDTH, "y": position // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
    return {
        "id": position + 1,
        "title": title,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def text(name: str) -> str:
    return json.dumps(board(name), indent=1) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))


if __name__ == "__main__":
    main()
