"""What only Kerf or HAMi's components may write on a pod: removed from new pods, restored on live ones.

Users get a warning, not a refusal: refusing would break tools that copy a running pod's metadata.
"""

from collections.abc import Callable
from dataclasses import replace

from kerf.wire.annotations import owned_annotation, owned_label
from kerf.wire.json import Json, at
from webhook.core.draft import Draft, changed


def strip(draft: Draft, written: frozenset[str] = frozenset()) -> Draft:
    """Remove every owned annotation and label of a new pod. `written` are those that vendors' plugins obey."""
    return _restore(draft, {}, _owned(written), "is written by the scheduler alone; it was removed")


def revert(draft: Draft, old: Json, written: frozenset[str] = frozenset()) -> Draft:
    """Give every owned annotation and label the value it had before the update."""
    meta = at(old, "metadata")
    return _restore(draft, meta, _owned(written), "is written by the scheduler alone; your change was undone")


def fix(draft: Draft, old: Json, keys: frozenset[str]) -> Draft:
    """Give every one of these annotations of a bound pod the value with which it was bound."""
    done = "says how its cards are served, and it has them; your change was undone"
    return _restore(draft, at(old, "metadata"), keys.__contains__, done)


def _owned(written: frozenset[str]) -> Callable[[str], bool]:
    return lambda key: key in written or owned_annotation(key)


def _restore(draft: Draft, before: Json, owned: Callable[[str], bool], done: str) -> Draft:
    annotations = _forged(draft.annotations, at(before, "annotations"), owned)
    labels = _forged(draft.labels, at(before, "labels"), owned_label)
    if not annotations and not labels:
        return draft
    fields = [f"metadata.annotations[{key[:80]!r}]" for key in annotations]
    fields += [f"metadata.labels[{key[:80]!r}]" for key in labels]
    restored = replace(draft, annotations=changed(draft.annotations, annotations), labels=changed(draft.labels, labels))
    return restored.warn(f"{name} {done}" for name in fields)


def _forged(values: Json, before: Json, owned: Callable[[str], bool]) -> Json:
    """The owned keys whose values differ from those before, with the values before; None where there was none."""
    return {
        key: before.get(key)
        for key in sorted({key for key in (*values, *before) if owned(key)})
        if values.get(key) != before.get(key) or (key in values and key not in before)
    }
