"""Whether a server answers, and its first answer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerf.kube.client import Kube

PROMPT = "The capital of France is"
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("completions", {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}),
    "vision": ("completions", {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}),
    "embedding": ("embeddings", {"input": PROMPT}),
    "rerank": ("rerank", {"query": PROMPT, "documents": ["Paris", "Rome"]}),
}
"""What is asked of a model of each task, by the OpenAI paths that vLLM 0.33.0 and SGLang 0.5.23 share."""
WITHOUT = frozenset({404, 405, 501})
"""Statuses of a server that has no such path: listing the model is all that can be asked."""


def answer_of(kube: "Kube", root: str, name: str, task: str) -> str | None:
    """What the server at `root` answers, asked through the API server; None where it does not list the model yet.

    Raises KubeError where it lists the model and fails to answer.
    """
    from kerf.kube.errors import KubeError
    from kerf.wire.json import items_at

    try:
        listed = kube.get(f"{root}/v1/models")
    except KubeError:
        return None
    if not any(each.get("id") == name for each in items_at(listed, "data")):
        return None
    if task not in ASKS:
        return "it lists the model"
    path, body = ASKS[task]
    try:
        return _shown(kube.create(f"{root}/v1/{path}", {"model": name, **body}))
    except KubeError as error:
        if error.status in WITHOUT:
            return "it lists the model"
        raise


def _shown(answer: Any) -> str:
    """An answer in one line."""
    from kerf.wire.json import items_at, text_at

    choices, vectors, ranked = (items_at(answer, key) for key in ("choices", "data", "results"))
    if choices:
        return f"{PROMPT}{text_at(choices[0], 'text')}"
    if vectors and isinstance(vectors[0].get("embedding"), list):
        return f"a vector of {len(vectors[0]['embedding']):,} numbers"
    if ranked:
        best = max(ranked, key=lambda each: each.get("relevance_score") or 0)
        return f"document {best.get('index')} first, of {len(ranked)}"
    return "it answers"
