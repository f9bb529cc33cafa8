"""What only Kerf or HAMi's components write on a pod is taken from nobody else.

On a new pod it is stripped; on a live pod a user's change to it is undone. Both are silent to the program that
sent the pod, apart from a warning: refusing would break tools that copy a running pod's metadata.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kerf.wire.annotations import owned_annotation, owned_label
from webhook.core.edits import Edits, child, edit_map

Json = Mapping[str, Any]
_PARTS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("annotations", owned_annotation),
    ("labels", owned_label),
)


def strip(pod: Json) -> Edits:
    """Remove every owned annotation and label of a new pod."""
    return _restore(pod, {}, "it was removed")


def revert(new: Json, old: Json) -> Edits:
    """Give every owned annotation and label the value it had before the update."""
    return _restore(new, old, "your change was undone")


def _restore(pod: Json, before: Json, done: str) -> Edits:
    edits = Edits()
    meta = child(pod, "metadata")
    if not meta:
        return edits
    for part, owned in _PARTS:
        current, wanted = child(meta, part), child(child(before, "metadata"), part)
        changes: dict[str, Any] = {
            key: wanted.get(key)
            for key in sorted({*_matching(current, owned), *_matching(wanted, owned)})
            if current.get(key) != wanted.get(key) or (key in current and key not in wanted)
        }
        edits += Edits(
            edit_map(("metadata", part), meta.get(part), changes),
            tuple(f"metadata.{part}[{key[:80]!r}] is written by the scheduler alone; {done}" for key in changes),
        )
    return edits


def _matching(values: Json, owned: Callable[[str], bool]) -> Iterator[str]:
    return (key for key in values if owned(key))
