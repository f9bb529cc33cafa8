"""Jobs that repair a card, from the operator's templates. Kerf itself never resets hardware.

In every text of a template `{node}`, `{card}`, `{bus}`, `{index}`, `{code}` and `{cause}` are replaced.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from scheduler.recovery.decide import FailedCard

LABEL = "kerf.dev/remedy"


def job_of(failed: FailedCard, template: str, namespace: str) -> dict[str, Any]:
    """The Job for one fault of a card. The same fault has the same name, so that it is made once."""
    health = failed.card.health
    words = {
        "node": failed.node,
        "card": failed.card.id,
        "bus": failed.card.bus,
        "index": str(failed.card.index),
        "code": str(health.code),
        "cause": health.cause,
    }
    job: dict[str, Any] = _filled(json.loads(template), words)
    key = f"{failed.node} {failed.card.id} {health.since} {health.remedy}"
    meta = dict(job.get("metadata") or {})
    labels = {**dict(meta.get("labels") or {}), LABEL: health.remedy}
    notes = {**dict(meta.get("annotations") or {}), **{f"kerf.dev/remedy-{word}": words[word] for word in words}}
    name = f"kerf-{health.remedy}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
    return {
        **job,
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**meta, "name": name, "namespace": namespace, "labels": labels, "annotations": notes},
    }


def _filled(value: Any, words: Mapping[str, str]) -> Any:  # noqa: ANN401 (JSON)
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(f"{{{word}}}", text)
        return value
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    return [_filled(item, words) for item in value] if isinstance(value, list) else value
