"""Pods whose affinity looks at other pods: where one looks at a pod, kube-scheduler may prefer or avoid nodes for it.

The caller holds the lock.
"""

from collections.abc import Iterable, Mapping

from scheduler.core.neighbours import Term, Terms

_MOST_SHARED = 4096


class Onlookers:
    """The terms of every live pod that has any."""

    def __init__(self) -> None:
        self._terms = Terms()
        self._of: dict[str, tuple[Term, ...]] = {}
        self._shared: dict[tuple[Term, ...], tuple[Term, ...]] = {}
        """One value for all pods of a template."""

    def put(self, uid: str, terms: tuple[Term, ...]) -> None:
        """A pod has these terms, none where it is gone. A pod's terms never change while it lives."""
        if bool(terms) == (uid in self._of):
            return
        if not terms:
            self._terms.drop(self._of.pop(uid))
            return
        if len(self._shared) >= _MOST_SHARED:
            self._shared.clear()
        self._of[uid] = self._shared.setdefault(terms, terms)
        self._terms.add(terms)

    def keep(self, uids: Iterable[str]) -> None:
        """No other pods than these are there."""
        for uid in self._of.keys() - set(uids):
            self.put(uid, ())

    def look_at(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether one of them may look at a pod."""
        return bool(self._terms) and self._terms.look_at(namespace, labels.items())
